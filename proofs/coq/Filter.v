(** * Sampled and filtered data: the effect relative to the control is a variance

    The teacher samples whole completions k from p_e, its distribution at theta0 + e D. A filter keeps completion k
    with a fixed probability [accept k] that may be anything (a hand-written rule, a judge, even an oracle that knows
    D) as long as it does not depend on e. The student does maximum likelihood on what is kept. Let s be the score
    <grad log p(k), D> at theta0. Then the inner product of the student's update with D is the mean of s over the kept
    completions, and its derivative in e is Var(s) over the kept completions of the REFERENCE model. So the sign of
    the inner product itself is lost (the filter alone moves even the control, e = 0), while the sign relative to the
    control is kept. *)
Require Import Reals List Lra Psatz.
From Coquelicot Require Import Coquelicot.
From Sublim Require Import Sums Derivatives InnerProduct Softmax.
Open Scope R_scope.

Section Filter.
Context {V : NormedModule R_AbsRing} {I : Type}.
Variable P : pairing V.
Variable idx : list I.                             (* all completions of one prompt *)
Variable accept : I -> R.
Hypothesis accept_nonneg : forall k, In k idx -> 0 <= accept k.
Hypothesis accept_some : exists k, In k idx /\ 0 < accept k.
Variable log_p : V -> I -> R.                      (* log-probability of a whole completion *)
Variable theta0 : V.
Variable grad_log_p : I -> V.
Hypothesis log_p_derive : forall k, In k idx -> is_gradient P (fun th => log_p th k) theta0 (grad_log_p k).
Variable D : V.

(** Probability of k among the kept completions of the teacher: accept k * p_e(k), normalised. *)
Definition kept (e : R) : I -> R := softmax idx accept (log_p (plus theta0 (scal e D))).
Definition score (k : I) : R := P (grad_log_p k) D.

(** Minus the gradient at theta0 of the student's expected negative log-likelihood on kept completions. *)
Definition filtered_update (e : R) : V := vsum idx (fun k => scal (kept e k) (grad_log_p k)).
Definition filtered_alignment (e : R) : R := P D (filtered_update e).
Definition retained_variance : R := variance idx accept (log_p theta0) score.

Theorem filtered_update_is_negative_gradient e :
  is_gradient P (fun th => - rsum idx (fun k => kept e k * log_p th k)) theta0 (opp (filtered_update e)).
Proof.
  unfold is_gradient.
  eapply (filterdiff_ext_lin _ (fun h => - rsum idx (fun k => kept e k * P (grad_log_p k) h))).
  - apply (filterdiff_opp_fct (V := R_NormedModule)).
    apply (filterdiff_rsum idx (fun k th => kept e k * log_p th k)). intros k Hk.
    apply (filterdiff_scal_r_fct (K := R_AbsRing) (V := R_NormedModule)); [apply Rmult_comm|]. apply log_p_derive; auto.
  - intros h. rewrite (ip_sym P), (ip_opp P). f_equal. unfold filtered_update. rewrite (ip_vsum P).
    apply rsum_ext. intros k _. rewrite (ip_scal P), (ip_sym P). reflexivity.
Qed.

Lemma filtered_alignment_is_mean e :
  filtered_alignment e = mean idx accept (log_p (plus theta0 (scal e D))) score.
Proof.
  unfold filtered_alignment, filtered_update, mean. rewrite (ip_vsum P).
  apply rsum_ext. intros k _. rewrite (ip_scal P), (ip_sym P). reflexivity.
Qed.

(** ** d/de alignment at 0 = Var(s | kept) >= 0 *)
Theorem filtered_differential : is_derive filtered_alignment 0 retained_variance.
Proof.
  apply (is_derive_ext (fun e => mean idx accept (log_p (plus theta0 (scal e D))) score)).
  { intros e. symmetry. apply filtered_alignment_is_mean. }
  unfold retained_variance. evar_last.
  - apply (mean_derive idx accept accept_nonneg accept_some (fun e => log_p (plus theta0 (scal e D))) score 0).
    intros k Hk. apply (gradient_along P (fun e => plus theta0 (scal e D)) D (fun th => log_p th k)).
    + apply line_derive.
    + rewrite line_at_0. apply log_p_derive; auto.
  - simpl. rewrite line_at_0. reflexivity.
Qed.

Theorem retained_variance_nonneg : 0 <= retained_variance.
Proof. apply variance_nonneg; auto. Qed.

(** ** A student of the teacher ends ahead of the control, a student of the reference model under the same filter *)
Corollary filtered_beats_control : 0 < retained_variance ->
  exists e0, 0 < e0 /\ forall e, 0 < e < e0 -> filtered_alignment 0 < filtered_alignment e.
Proof.
  intros H.
  destruct (pos_near_0 (fun e => filtered_alignment e - filtered_alignment 0) retained_variance) as [e0 [He0 Hd]]; auto.
  - evar_last. apply @is_derive_minus; [apply filtered_differential | apply @is_derive_const].
    unfold minus, plus, opp, zero; simpl. ring.
  - ring.
  - exists e0. split; auto. intros e He. specialize (Hd e He). lra.
Qed.

(** ** Tabular model: where log-probabilities are affine in e up to normalisation, the differential never decreases *)
Theorem filtered_affine_monotone (c : R -> R) :
  (forall e k, log_p (plus theta0 (scal e D)) k = log_p theta0 k + e * score k + c e) ->
  forall e1 e2, e1 <= e2 -> filtered_alignment e1 <= filtered_alignment e2.
Proof.
  intros Haff e1 e2 He. set (z := fun e k => log_p theta0 k + e * score k).
  assert (Hm : forall e, filtered_alignment e = mean idx accept (z e) score).
  { intros e. rewrite filtered_alignment_is_mean. apply rsum_ext. intros k _. f_equal.
    rewrite <- (softmax_shift idx accept accept_nonneg accept_some (z e) (c e)).
    apply softmax_ext. intros j. apply Haff. }
  rewrite !Hm. destruct (Req_dec e1 e2) as [->|Hne]; [lra|].
  destruct (mean_value (fun e => mean idx accept (z e) score) (fun e => variance idx accept (z e) score) e1 e2)
    as [t [Ht _]]; [lra| |].
  - intros t _. apply (mean_derive idx accept accept_nonneg accept_some z score).
    intros k _. unfold z. auto_derive; auto. ring.
  - pose proof (variance_nonneg idx accept accept_nonneg accept_some (z t) score). nra.
Qed.
End Filter.
