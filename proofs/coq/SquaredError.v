(** * Weighted squared error

    The per-logit weights [q x i] may depend on the input and may be zero. The loss is the sum over the logits of
    q (z - y)^2, so M = 2 diag(q). *)
Require Import Reals List Lra Psatz.
From Coquelicot Require Import Coquelicot.
From Sublim Require Import Sums Derivatives InnerProduct Alignment.
Open Scope R_scope.

Section SquaredError.
Context {V : NormedModule R_AbsRing} {X I : Type}.
Variable P : pairing V.
Variable idx : list I.
Variable data : list X.
Variable w : X -> R.
Hypothesis w_nonneg : forall x, In x data -> 0 <= w x.
Variable q : X -> I -> R.
Hypothesis q_nonneg : forall x i, In i idx -> 0 <= q x i.
Variable f : V -> X -> I -> R.
Variable theta0 : V.
Variable J : X -> I -> V.
Hypothesis HJ : forall x i, In x data -> In i idx -> is_gradient P (fun th => f th x i) theta0 (J x i).
Variable D : V.

Let y := teacher_logits f theta0 D.
Let v := logit_tangent P J D.

Definition squared_error (x : X) (z y : I -> R) := rsum idx (fun i => q x i * (z i - y i) ^ 2).
Definition pull_se (x : X) (e : R) (i : I) : R :=
  2 * q x i * (teacher_logits f theta0 D x e i - f theta0 x i).
Let pull_se' (x : X) (i : I) : R := 2 * q x i * v x i.

(** The student's update is minus the Frechet gradient, at theta0, of its expected squared error. *)
Theorem squared_error_update_is_negative_gradient e :
  is_gradient P (fun th => rsum data (fun x => w x * squared_error x (f th x) (y x e))) theta0
    (opp (student_update idx data w J pull_se e)).
Proof.
  unfold is_gradient.
  eapply (filterdiff_ext_lin _ (fun h => rsum data (fun x => w x * rsum idx (fun i =>
     q x i * (P (J x i) h * (2 * (f theta0 x i - y x e i))))))).
  - apply (filterdiff_rsum data (fun x th => w x * squared_error x (f th x) (y x e))). intros x Hx.
    apply (filterdiff_scal_r_fct (K := R_AbsRing) (V := R_NormedModule)); [apply Rmult_comm|].
    unfold squared_error. apply (filterdiff_rsum idx (fun i th => q x i * (f th x i - y x e i) ^ 2)). intros i Hi.
    apply (filterdiff_scal_r_fct (K := R_AbsRing) (V := R_NormedModule)); [apply Rmult_comm|].
    apply (filterdiff_comp' (fun th => f th x i) (fun z => (z - y x e i) ^ 2) theta0 _
      (fun k => scal k (2 * (f theta0 x i - y x e i)))); [apply HJ; auto|].
    change (is_derive (fun z => (z - y x e i) ^ 2) (f theta0 x i) (2 * (f theta0 x i - y x e i))).
    auto_derive; auto. ring.
  - intros h. rewrite (ip_sym P), (ip_opp P). unfold student_update. rewrite (ip_vsum P).
    rewrite <- rsum_opp. apply rsum_ext. intros x Hx. rewrite (ip_vsum P), <- !rsum_scal, <- rsum_opp.
    apply rsum_ext. intros i Hi. rewrite (ip_scal P), (ip_sym P h). unfold pull_se. fold y. ring.
Qed.

(** Squared error satisfies the four conditions of Alignment.v. *)
Lemma squared_error_conditions :
  (forall x i, In x data -> In i idx -> pull_se x 0 i = 0) /\
  (forall x i, In x data -> In i idx -> is_derive (fun e => pull_se x e i) 0 (pull_se' x i)) /\
  (forall x, In x data -> 0 <= rsum idx (fun i => pull_se' x i * v x i)) /\
  (forall x, In x data -> rsum idx (fun i => pull_se' x i * v x i) = 0 ->
     forall e, rsum idx (fun i => pull_se x e i * v x i) = 0).
Proof.
  assert (Hn : forall x i, In i idx -> 0 <= pull_se' x i * v x i).
  { intros x i Hi. unfold pull_se'. pose proof (q_nonneg x i Hi). pose proof (pow2_ge_0 (v x i)). nra. }
  split; [|split; [|split]].
  - intros x i _ _. unfold pull_se. rewrite teacher_logits_0. ring.
  - intros x i Hx Hi. unfold pull_se, pull_se'. evar_last.
    + apply @is_derive_scal. apply @is_derive_minus; [|apply @is_derive_const].
      apply (teacher_logits_derive P idx data f theta0 J HJ); auto.
    + unfold minus, plus, opp, zero, scal; simpl; unfold mult; simpl. unfold v. ring.
  - intros x Hx. apply rsum_nonneg. auto.
  - intros x Hx H e. apply rsum_zero. intros i Hi.
    pose proof (rsum_nonneg_zero _ _ (fun i Hi => Hn x i Hi) H i Hi) as H1. unfold pull_se' in H1. simpl in H1.
    assert (q x i * v x i = 0).
    { destruct (Req_dec (v x i) 0) as [E|E]; [rewrite E; ring|].
      assert (q x i = 0); [|nra]. apply (Rmult_eq_reg_r (v x i * v x i)); [nra|].
      apply Rmult_integral_contrapositive_currified; auto. }
    unfold pull_se. fold y.
    replace (2 * q x i * (y x e i - f theta0 x i) * v x i)
      with (2 * (y x e i - f theta0 x i) * (q x i * v x i)) by ring. rewrite H0. ring.
Qed.

(** ** A = 2 E[sum_i q_i v_i^2] *)
Definition coefficient_se : R :=
  rsum data (fun x => w x * rsum idx (fun i => 2 * q x i * logit_tangent P J D x i ^ 2)).

Theorem alignment_derivative_squared_error :
  is_derive (alignment P idx data w J D pull_se) 0 coefficient_se.
Proof.
  destruct squared_error_conditions as [H0 [H1 [H2 H3]]]. evar_last.
  - apply (alignment_derivative P idx data w J D pull_se pull_se'); auto.
  - unfold alignment_coefficient, coefficient_se. apply rsum_ext. intros x Hx. f_equal.
    apply rsum_ext. intros i Hi. unfold pull_se', v. ring.
Qed.

(** ** Lemma 1 and Theorem 1 for weighted squared error *)
Theorem lemma1_squared_error :
  exists e0, 0 < e0 /\ forall e, 0 < e < e0 -> 0 <= alignment P idx data w J D pull_se e.
Proof.
  destruct squared_error_conditions as [H0 [H1 [H2 H3]]].
  apply (lemma1 P idx data w w_nonneg J D pull_se pull_se'); auto.
Qed.

Theorem lemma1_sharp_squared_error :
  (forall e, alignment P idx data w J D pull_se e = 0) \/
  (exists e0, 0 < e0 /\ forall e, 0 < e < e0 -> 0 < alignment P idx data w J D pull_se e).
Proof.
  destruct squared_error_conditions as [H0 [H1 [H2 H3]]].
  apply (lemma1_sharp P idx data w w_nonneg J D pull_se pull_se'); auto.
Qed.

Theorem theorem1_squared_error (LT : V -> R) (alpha : R) :
  is_gradient P LT theta0 (opp D) -> 0 < alpha ->
  (forall e, alignment P idx data w J D pull_se e = 0) \/
  (exists e0, 0 < e0 /\ forall e, 0 < e < e0 ->
     0 < alignment P idx data w J D pull_se e /\
     LT (plus theta0 (scal alpha (student_update idx data w J pull_se e))) < LT theta0).
Proof.
  destruct squared_error_conditions as [H0 [H1 [H2 H3]]].
  apply (theorem1 P idx data w w_nonneg theta0 J D pull_se pull_se'); auto.
Qed.
End SquaredError.
