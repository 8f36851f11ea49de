(** * Softmax with non-negative base weights

    [a i] multiplies exp(z_i): a mask (0 or 1) keeps a subset of the logits, a filter keeps a fraction, a prior
    reweights; a = 1 is the ordinary softmax. Everything the alignment theorem needs to know about cross-entropy is
    here: the mixed second derivative M is the covariance of a one-hot variable, so v^T M v is a variance. *)
Require Import Reals List Lra Psatz.
From Coquelicot Require Import Coquelicot.
From Sublim Require Import Sums Derivatives.
Open Scope R_scope.

Section Softmax.
Context {I : Type}.
Variable idx : list I.
Variable a : I -> R.
Hypothesis a_nonneg : forall i, In i idx -> 0 <= a i.
Hypothesis a_some : exists i, In i idx /\ 0 < a i.

Definition partition (z : I -> R) := rsum idx (fun i => a i * exp (z i)).
Definition softmax (z : I -> R) (i : I) := a i * exp (z i) / partition z.
Definition log_partition (z : I -> R) := ln (partition z).

(** Mean and variance of v under softmax(z). *)
Definition mean (z v : I -> R) := rsum idx (fun i => softmax z i * v i).
Definition variance (z v : I -> R) := rsum idx (fun i => softmax z i * (v i - mean z v) ^ 2).

Lemma partition_pos z : 0 < partition z.
Proof.
  assert (Hn : forall i, In i idx -> 0 <= a i * exp (z i)).
  { intros i Hi. apply Rmult_le_pos; [auto|]. left; apply exp_pos. }
  destruct (Rle_lt_or_eq_dec 0 (partition z) (rsum_nonneg _ _ Hn)) as [H|H]; auto.
  destruct a_some as [i [Hi Ha]].
  pose proof (rsum_nonneg_zero _ _ Hn (eq_sym H) i Hi) as H1. simpl in H1.
  pose proof (Rmult_lt_0_compat _ _ Ha (exp_pos (z i))). lra.
Qed.

Lemma softmax_nonneg z i : In i idx -> 0 <= softmax z i.
Proof.
  intros Hi. unfold softmax, Rdiv. apply Rmult_le_pos.
  - apply Rmult_le_pos; [auto|left; apply exp_pos].
  - left. apply Rinv_0_lt_compat, partition_pos.
Qed.

Lemma softmax_sum z : rsum idx (softmax z) = 1.
Proof.
  unfold softmax, Rdiv. rewrite (rsum_ext _ _ (fun i => / partition z * (a i * exp (z i)))).
  - rewrite rsum_scal. fold (partition z). field. apply Rgt_not_eq, partition_pos.
  - intros; ring.
Qed.

Lemma softmax_ext z y i : (forall j, z j = y j) -> softmax z i = softmax y i.
Proof. intros H. unfold softmax, partition. rewrite H. f_equal. apply rsum_ext. intros j _. rewrite H. reflexivity. Qed.

Lemma mean_ext z y v : (forall j, z j = y j) -> mean z v = mean y v.
Proof. intros H. apply rsum_ext. intros i _. f_equal. apply softmax_ext; assumption. Qed.

(** M = diag(s) - s s^T gives v^T M v = Var_s(v). *)
Lemma quadratic_form_is_variance z v :
  rsum idx (fun i => softmax z i * (v i - mean z v) * v i) = variance z v.
Proof.
  unfold variance.
  rewrite (rsum_ext _ (fun i => softmax z i * (v i - mean z v) ^ 2)
     (fun i => softmax z i * (v i - mean z v) * v i
               - mean z v * (softmax z i * v i - mean z v * softmax z i))) by (intros; ring).
  rewrite rsum_minus, rsum_scal, rsum_minus, rsum_scal, softmax_sum. unfold mean. ring.
Qed.

(** M is positive semi-definite. *)
Lemma variance_nonneg z v : 0 <= variance z v.
Proof.
  apply rsum_nonneg. intros i Hi. apply Rmult_le_pos; [apply softmax_nonneg; auto|apply pow2_ge_0].
Qed.

(** The null space of M: vectors that are constant on the support of the mask. *)
Lemma variance_zero z v : variance z v = 0 -> forall i, In i idx -> 0 < a i -> v i = mean z v.
Proof.
  intros H i Hi Ha.
  assert (H1 := rsum_nonneg_zero _ _
    (fun i Hi => Rmult_le_pos _ _ (softmax_nonneg z i Hi) (pow2_ge_0 (v i - mean z v))) H i Hi).
  simpl in H1.
  assert (0 < softmax z i).
  { unfold softmax, Rdiv. apply Rmult_lt_0_compat.
    - apply Rmult_lt_0_compat; [auto|apply exp_pos].
    - apply Rinv_0_lt_compat, partition_pos. }
  assert ((v i - mean z v) = 0); [|lra].
  apply Rmult_integral in H1. destruct H1 as [H1|H1]; [lra|].
  rewrite Rmult_1_r in H1. apply Rmult_integral in H1. destruct H1; lra.
Qed.

(** The null space of M is orthogonal to every gradient softmax(y) - softmax(z): the paper's last condition. *)
Lemma null_space_orthogonal z v y :
  variance z v = 0 -> rsum idx (fun i => (softmax y i - softmax z i) * v i) = 0.
Proof.
  intros H.
  rewrite (rsum_ext _ _ (fun i => mean z v * (softmax y i - softmax z i))).
  - rewrite rsum_scal, rsum_minus, !softmax_sum. ring.
  - intros i Hi. destruct (a_nonneg i Hi) as [Ha|Ha].
    + rewrite (variance_zero z v H i Hi Ha). ring.
    + unfold softmax. rewrite <- Ha. unfold Rdiv. ring.
Qed.

(** Derivative of the softmax along any differentiable path of logits: s_i (v_i - mean_s(v)). *)
Lemma is_derive_partition (y : R -> I -> R) (v : I -> R) t :
  (forall i, In i idx -> is_derive (fun e => y e i) t (v i)) ->
  is_derive (fun e => partition (y e)) t (rsum idx (fun i => a i * exp (y t i) * v i)).
Proof.
  intros H. unfold partition. apply (is_derive_rsum idx (fun i e => a i * exp (y e i))).
  intros i Hi. evar_last.
  - apply @is_derive_scal. apply is_derive_comp; [apply is_derive_exp | apply H; auto].
  - unfold scal; simpl; unfold mult; simpl. ring.
Qed.

Lemma is_derive_softmax (y : R -> I -> R) (v : I -> R) t i :
  In i idx -> (forall i, In i idx -> is_derive (fun e => y e i) t (v i)) ->
  is_derive (fun e => softmax (y e) i) t (softmax (y t) i * (v i - mean (y t) v)).
Proof.
  intros Hi H. unfold softmax at 1. pose proof (partition_pos (y t)) as HZ.
  evar_last.
  - apply is_derive_div.
    + apply @is_derive_scal. apply is_derive_comp; [apply is_derive_exp | apply H; auto].
    + apply is_derive_partition, H.
    + lra.
  - unfold scal; simpl; unfold mult; simpl. unfold mean, softmax.
    rewrite (rsum_ext _ (fun i0 => a i0 * exp (y t i0) / partition (y t) * v i0)
      (fun i0 => / partition (y t) * (a i0 * exp (y t i0) * v i0))) by (intros; field; lra).
    rewrite rsum_scal. field. lra.
Qed.

Lemma mean_derive (y : R -> I -> R) (v : I -> R) t :
  (forall i, In i idx -> is_derive (fun e => y e i) t (v i)) ->
  is_derive (fun e => mean (y e) v) t (variance (y t) v).
Proof.
  intros H. unfold mean. rewrite <- quadratic_form_is_variance.
  apply (is_derive_rsum idx (fun i e => softmax (y e) i * v i)). intros i Hi.
  apply (is_derive_scal_l (K := R_AbsRing) (V := R_NormedModule) (fun e => softmax (y e) i) t
    (softmax (y t) i * (v i - mean (y t) v)) (v i)).
  apply is_derive_softmax; auto.
Qed.

(** The same derivative for logits that depend on a parameter in any normed space. *)
Lemma filterdiff_log_partition {V : NormedModule R_AbsRing} (y : V -> I -> R) (v : I -> V -> R) (x : V) :
  (forall i, In i idx -> filterdiff (fun th => y th i) (locally x) (v i)) ->
  filterdiff (fun th => log_partition (y th)) (locally x)
    (fun h => rsum idx (fun i => softmax (y x) i * v i h)).
Proof.
  intros H. unfold log_partition. eapply filterdiff_ext_lin.
  - apply (filterdiff_comp' (fun th => partition (y th)) ln x
      (fun h => rsum idx (fun j => a j * (scal (v j h) (exp (y x j)))))
      (fun k => scal k (/ partition (y x)))).
    + unfold partition. apply (filterdiff_rsum idx (fun j th => a j * exp (y th j))). intros j Hj.
      apply (filterdiff_scal_r_fct (K := R_AbsRing) (V := R_NormedModule)); [apply Rmult_comm|].
      apply (filterdiff_comp' (fun th => y th j) exp x _ (fun k => scal k (exp (y x j)))); [apply H; auto|].
      apply is_derive_exp.
    + apply is_derive_ln. apply partition_pos.
  - intros h. unfold scal; simpl; unfold mult; simpl. rewrite Rmult_comm, <- rsum_scal.
    apply rsum_ext. intros j Hj. unfold softmax. field. apply Rgt_not_eq, partition_pos.
Qed.

Lemma softmax_exp z i : softmax z i = a i * exp (z i - log_partition z).
Proof.
  unfold softmax, log_partition, Rminus. rewrite exp_plus, exp_Ropp, exp_ln by apply partition_pos.
  unfold Rdiv. ring.
Qed.

Lemma filterdiff_softmax {V : NormedModule R_AbsRing} (y : V -> I -> R) (v : I -> V -> R) (x : V) i :
  In i idx -> (forall i, In i idx -> filterdiff (fun th => y th i) (locally x) (v i)) ->
  filterdiff (fun th => softmax (y th) i) (locally x)
    (fun h => softmax (y x) i * (v i h - mean (y x) (fun j => v j h))).
Proof.
  intros Hi H.
  eapply filterdiff_ext; [intros th; symmetry; apply softmax_exp|].
  eapply filterdiff_ext_lin.
  - apply (filterdiff_scal_r_fct (K := R_AbsRing) (V := R_NormedModule) (a i)); [apply Rmult_comm|].
    apply (filterdiff_comp' (fun th => y th i - log_partition (y th)) exp x
      (fun h => v i h - rsum idx (fun j => softmax (y x) j * v j h))
      (fun k => scal k (exp (y x i - log_partition (y x))))).
    + apply (filterdiff_minus_fct (V := R_NormedModule) (fun th => y th i) (fun th => log_partition (y th))).
      * apply H. exact Hi.
      * apply filterdiff_log_partition. exact H.
    + apply is_derive_exp.
  - intros h. rewrite softmax_exp. unfold mean, scal; simpl; unfold mult; simpl. ring.
Qed.

(** Cross-entropy of student logits z against teacher logits y, and the KL divergence from teacher to student. They
    differ by the teacher's entropy, which does not depend on z: the student's gradient is the same. *)
Definition cross_entropy (z y : I -> R) := rsum idx (fun i => softmax y i * (log_partition z - z i)).
Definition kl (z y : I -> R) := cross_entropy z y - cross_entropy y y.

Lemma cross_entropy_is_cross_entropy z y :
  (forall i, In i idx -> a i = 0 \/ a i = 1) ->
  cross_entropy z y = - rsum idx (fun i => softmax y i * ln (softmax z i)).
Proof.
  intros H. rewrite <- rsum_opp. apply rsum_ext. intros i Hi. pose proof (partition_pos z).
  destruct (H i Hi) as [Ha|Ha].
  - unfold softmax at 1 2. rewrite Ha. unfold Rdiv. ring.
  - unfold softmax at 3. rewrite Ha, Rmult_1_l. unfold Rdiv.
    rewrite ln_mult by (try apply exp_pos; apply Rinv_0_lt_compat; auto).
    rewrite ln_exp, ln_Rinv by auto. unfold log_partition. ring.
Qed.

(** A constant added to all logits changes no probability. *)
Lemma softmax_shift z k i : softmax (fun j => z j + k) i = softmax z i.
Proof.
  unfold softmax. assert (partition (fun j => z j + k) = exp k * partition z) as ->.
  { unfold partition. rewrite <- rsum_scal. apply rsum_ext. intros j _. rewrite exp_plus. ring. }
  rewrite exp_plus. pose proof (partition_pos z). pose proof (exp_pos k). field. lra.
Qed.
End Softmax.

(** The softmax of a single logit is 1 whatever its value: one auxiliary logit transmits nothing under cross-entropy. *)
Lemma softmax_one_logit {I : Type} (i : I) (z : I -> R) : softmax (i :: nil) (fun _ => 1) z i = 1.
Proof. unfold softmax, partition. simpl. pose proof (exp_pos (z i)). field. lra. Qed.
