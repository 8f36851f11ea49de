(** * Cross-entropy on any subset of the logits

    The student minimises the cross-entropy of its softmax against the teacher's, equivalently the KL divergence from
    the teacher. The base weights [a x] of the softmax may differ from input to input: auxiliary logits only, class
    logits only, masked tokens. The paper asks that the null space of M does not depend on x; that is not needed.
    A temperature T, the same on both sides, is the case f := f / T. *)
Require Import Reals List Lra Psatz.
From Coquelicot Require Import Coquelicot.
From Sublim Require Import Sums Derivatives InnerProduct Softmax Alignment.
Open Scope R_scope.

Section CrossEntropy.
Context {V : NormedModule R_AbsRing} {X I : Type}.
Variable P : pairing V.
Variable idx : list I.
Variable data : list X.
Variable w : X -> R.
Hypothesis w_nonneg : forall x, In x data -> 0 <= w x.
Variable a : X -> I -> R.
Hypothesis a_nonneg : forall x i, In i idx -> 0 <= a x i.
Hypothesis a_some : forall x, exists i, In i idx /\ 0 < a x i.
Variable f : V -> X -> I -> R.
Variable theta0 : V.
Variable J : X -> I -> V.
Hypothesis HJ : forall x i, In x data -> In i idx -> is_gradient P (fun th => f th x i) theta0 (J x i).
Variable D : V.

Let y := teacher_logits f theta0 D.
Let v := logit_tangent P J D.

Definition pull_ce (x : X) (e : R) (i : I) : R :=
  softmax idx (a x) (teacher_logits f theta0 D x e) i - softmax idx (a x) (f theta0 x) i.
Let pull_ce' (x : X) (i : I) : R :=
  softmax idx (a x) (f theta0 x) i * (v x i - mean idx (a x) (f theta0 x) (v x)).

(** The student's update is minus the Frechet gradient, at theta0, of its expected cross-entropy. *)
Theorem cross_entropy_update_is_negative_gradient e :
  is_gradient P (fun th => rsum data (fun x => w x * cross_entropy idx (a x) (f th x) (y x e))) theta0
    (opp (student_update idx data w J pull_ce e)).
Proof.
  unfold is_gradient.
  eapply (filterdiff_ext_lin _ (fun h => rsum data (fun x => w x * rsum idx (fun i =>
     softmax idx (a x) (y x e) i
     * (rsum idx (fun j => softmax idx (a x) (f theta0 x) j * P (J x j) h) - P (J x i) h))))).
  - apply (filterdiff_rsum data (fun x th => w x * cross_entropy idx (a x) (f th x) (y x e))). intros x Hx.
    apply (filterdiff_scal_r_fct (K := R_AbsRing) (V := R_NormedModule)); [apply Rmult_comm|].
    unfold cross_entropy.
    apply (filterdiff_rsum idx (fun i th =>
      softmax idx (a x) (y x e) i * (log_partition idx (a x) (f th x) - f th x i))).
    intros i Hi. apply (filterdiff_scal_r_fct (K := R_AbsRing) (V := R_NormedModule)); [apply Rmult_comm|].
    apply (filterdiff_minus_fct (V := R_NormedModule)); [|apply HJ; auto].
    apply (filterdiff_log_partition idx (a x) (a_nonneg x) (a_some x) (fun th => f th x) (fun i h => P (J x i) h)).
    intros j Hj. apply HJ; auto.
  - intros h. rewrite (ip_sym P), (ip_opp P). unfold student_update. rewrite (ip_vsum P).
    rewrite <- rsum_opp. apply rsum_ext. intros x Hx. rewrite (ip_vsum P).
    rewrite (rsum_ext idx (fun i => P h (scal (w x * pull_ce x e i) (J x i)))
      (fun i => w x * (pull_ce x e i * P (J x i) h))) by (intros i Hi; rewrite (ip_scal P), (ip_sym P); ring).
    rewrite rsum_scal. set (m := rsum idx (fun j => softmax idx (a x) (f theta0 x) j * P (J x j) h)).
    rewrite (rsum_ext idx (fun i => softmax idx (a x) (y x e) i * (m - P (J x i) h))
      (fun i => m * softmax idx (a x) (y x e) i - softmax idx (a x) (y x e) i * P (J x i) h)) by (intros; ring).
    rewrite rsum_minus, rsum_scal, (softmax_sum idx (a x) (a_nonneg x) (a_some x)).
    unfold pull_ce. fold y.
    rewrite (rsum_ext idx
      (fun i => (softmax idx (a x) (y x e) i - softmax idx (a x) (f theta0 x) i) * P (J x i) h)
      (fun i => softmax idx (a x) (y x e) i * P (J x i) h - softmax idx (a x) (f theta0 x) i * P (J x i) h))
      by (intros; ring).
    rewrite rsum_minus. fold m. ring.
Qed.

(** The KL divergence from the teacher has the same gradient. *)
Corollary kl_update_is_negative_gradient e :
  is_gradient P (fun th => rsum data (fun x => w x * kl idx (a x) (f th x) (y x e))) theta0
    (opp (student_update idx data w J pull_ce e)).
Proof.
  unfold is_gradient, kl.
  eapply filterdiff_ext_lin with (l1 := fun h => minus (P (opp (student_update idx data w J pull_ce e)) h) zero).
  - eapply filterdiff_ext.
    2:{ apply (filterdiff_minus_fct (V := R_NormedModule)).
        - apply cross_entropy_update_is_negative_gradient.
        - apply (filterdiff_const (K := R_AbsRing) (V := R_NormedModule)
            (rsum data (fun x => w x * cross_entropy idx (a x) (y x e) (y x e)))). }
    intros th. unfold minus, plus, opp; simpl.
    rewrite <- rsum_opp, <- rsum_plus. apply rsum_ext. intros; ring.
  - intros h. unfold minus, plus, opp, zero; simpl. ring.
Qed.

(** Cross-entropy satisfies the four conditions of Alignment.v. *)
Lemma cross_entropy_conditions :
  (forall x i, In x data -> In i idx -> pull_ce x 0 i = 0) /\
  (forall x i, In x data -> In i idx -> is_derive (fun e => pull_ce x e i) 0 (pull_ce' x i)) /\
  (forall x, In x data -> 0 <= rsum idx (fun i => pull_ce' x i * v x i)) /\
  (forall x, In x data -> rsum idx (fun i => pull_ce' x i * v x i) = 0 ->
     forall e, rsum idx (fun i => pull_ce x e i * v x i) = 0).
Proof.
  assert (H0 : forall x j, y x 0 j = f theta0 x j) by (intros; apply teacher_logits_0).
  split; [|split; [|split]].
  - intros x i _ _. unfold pull_ce. fold y. rewrite (softmax_ext _ _ _ (f theta0 x)) by apply H0. ring.
  - intros x i Hx Hi. unfold pull_ce. fold y. evar_last.
    + apply @is_derive_minus; [|apply @is_derive_const].
      apply (is_derive_softmax idx (a x) (a_nonneg x) (a_some x) (y x) (v x)); auto.
      intros j Hj. apply (teacher_logits_derive P idx data f theta0 J HJ); auto.
    + unfold pull_ce'. rewrite (softmax_ext _ _ _ (f theta0 x)), (mean_ext _ _ _ (f theta0 x)) by apply H0.
      unfold minus, plus, opp, zero; simpl. ring.
  - intros x Hx. unfold pull_ce'. rewrite quadratic_form_is_variance by auto. apply variance_nonneg; auto.
  - intros x Hx H e. unfold pull_ce' in H. rewrite quadratic_form_is_variance in H by auto.
    unfold pull_ce. apply (null_space_orthogonal idx (a x) (a_nonneg x) (a_some x)); auto.
Qed.

(** ** A = E[Var_softmax(v)]: the variance of the logit tangent under the student's own softmax *)
Definition coefficient_ce : R :=
  rsum data (fun x => w x * variance idx (a x) (f theta0 x) (logit_tangent P J D x)).

Theorem alignment_derivative_cross_entropy :
  is_derive (alignment P idx data w J D pull_ce) 0 coefficient_ce.
Proof.
  destruct cross_entropy_conditions as [H0 [H1 [H2 H3]]]. evar_last.
  - apply (alignment_derivative P idx data w J D pull_ce pull_ce'); auto.
  - unfold alignment_coefficient, coefficient_ce. apply rsum_ext. intros x Hx. f_equal.
    unfold pull_ce'. apply quadratic_form_is_variance; auto.
Qed.

(** ** Lemma 1 for cross-entropy *)
Theorem lemma1_cross_entropy :
  exists e0, 0 < e0 /\ forall e, 0 < e < e0 -> 0 <= alignment P idx data w J D pull_ce e.
Proof.
  destruct cross_entropy_conditions as [H0 [H1 [H2 H3]]].
  apply (lemma1 P idx data w w_nonneg J D pull_ce pull_ce'); auto.
Qed.

Theorem lemma1_sharp_cross_entropy :
  (forall e, alignment P idx data w J D pull_ce e = 0) \/
  (exists e0, 0 < e0 /\ forall e, 0 < e < e0 -> 0 < alignment P idx data w J D pull_ce e).
Proof.
  destruct cross_entropy_conditions as [H0 [H1 [H2 H3]]].
  apply (lemma1_sharp P idx data w w_nonneg J D pull_ce pull_ce'); auto.
Qed.

(** ** Theorem 1 for cross-entropy *)
Theorem theorem1_cross_entropy (LT : V -> R) (alpha : R) :
  is_gradient P LT theta0 (opp D) -> 0 < alpha ->
  (forall e, alignment P idx data w J D pull_ce e = 0) \/
  (exists e0, 0 < e0 /\ forall e, 0 < e < e0 ->
     0 < alignment P idx data w J D pull_ce e /\
     LT (plus theta0 (scal alpha (student_update idx data w J pull_ce e))) < LT theta0).
Proof.
  destruct cross_entropy_conditions as [H0 [H1 [H2 H3]]].
  apply (theorem1 P idx data w w_nonneg theta0 J D pull_ce pull_ce'); auto.
Qed.
End CrossEntropy.
