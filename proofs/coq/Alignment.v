(** * The alignment theorem, for any loss that satisfies its four conditions

    The setting of Cloud et al. 2025 (section 6.1). Teacher and student start from the same reference parameters
    theta0. The teacher moves by [e * D], D ARBITRARY. The student takes one gradient step on the expected
    distillation loss over a finite weighted data set; its inputs and the logits it sees have nothing to do with what
    moved the teacher. [alignment e] is the inner product of the student's update with D. *)
Require Import Reals List Lra Psatz.
From Coquelicot Require Import Coquelicot.
From Sublim Require Import Sums Derivatives InnerProduct.
Open Scope R_scope.

Section Alignment.
Context {V : NormedModule R_AbsRing} {X I : Type}.
Variable P : pairing V.
Variable idx : list I.                             (* the distilled logits *)
Variable data : list X.
Variable w : X -> R.                               (* sample weights, for instance 1/N *)
Hypothesis w_nonneg : forall x, In x data -> 0 <= w x.
Variable f : V -> X -> I -> R.                     (* logits of the one network that teacher and student share *)
Variable theta0 : V.
Variable J : X -> I -> V.                          (* gradient of each logit at theta0 *)
Hypothesis HJ : forall x i, In x data -> In i idx -> is_gradient P (fun th => f th x i) theta0 (J x i).
Variable D : V.                                    (* the teacher's update *)

Definition teacher_logits (x : X) (e : R) (i : I) : R := f (plus theta0 (scal e D)) x i.
Definition logit_tangent (x : X) (i : I) : R := P (J x i) D.

Lemma teacher_logits_0 x i : teacher_logits x 0 i = f theta0 x i.
Proof. unfold teacher_logits. rewrite line_at_0. reflexivity. Qed.

(** The tangent is the derivative of the teacher's logits: differentiability at the one point theta0 is enough. *)
Lemma teacher_logits_derive x i : In x data -> In i idx ->
  is_derive (fun e => teacher_logits x e i) 0 (logit_tangent x i).
Proof.
  intros Hx Hi. unfold teacher_logits, logit_tangent.
  apply (gradient_along P (fun e => plus theta0 (scal e D)) D (fun th => f th x i)).
  - apply line_derive.
  - rewrite line_at_0. apply HJ; auto.
Qed.

(** The loss enters through [pull x e i] = - d/dz_i l(z, y), the force on logit i at z = f theta0 x, y = teacher
    logits at e. Four conditions: it vanishes at z = y; it is differentiable there in e, with derivative (M v)_i where
    v is the tangent; v^T M v >= 0; and where v^T M v = 0 the pull along v vanishes for every e (the null-space
    condition). The paper asks for them at all z, y; the diagonal and this x are enough. *)
Variable pull : X -> R -> I -> R.
Variable pull' : X -> I -> R.
Hypothesis pull_0 : forall x i, In x data -> In i idx -> pull x 0 i = 0.
Hypothesis pull_derive : forall x i, In x data -> In i idx -> is_derive (fun e => pull x e i) 0 (pull' x i).
Hypothesis pull_psd : forall x, In x data -> 0 <= rsum idx (fun i => pull' x i * logit_tangent x i).
Hypothesis pull_null : forall x, In x data ->
  rsum idx (fun i => pull' x i * logit_tangent x i) = 0 ->
  forall e, rsum idx (fun i => pull x e i * logit_tangent x i) = 0.

(** Minus the gradient of the expected loss, E[J^T pull]. *)
Definition student_update (e : R) : V :=
  vsum data (fun x => vsum idx (fun i => scal (w x * pull x e i) (J x i))).
Definition alignment (e : R) : R := P D (student_update e).

(** The paper's A = E[v^T M v]. *)
Definition alignment_coefficient : R :=
  rsum data (fun x => w x * rsum idx (fun i => pull' x i * logit_tangent x i)).

(** The alignment seen in logit space (forward mode): E[pull . v]. *)
Lemma alignment_formula e :
  alignment e = rsum data (fun x => w x * rsum idx (fun i => pull x e i * logit_tangent x i)).
Proof.
  unfold alignment, student_update. rewrite (ip_vsum P). apply rsum_ext. intros x Hx.
  rewrite (ip_vsum P), <- rsum_scal.
  apply rsum_ext. intros i Hi. rewrite (ip_scal P), (ip_sym P D). unfold logit_tangent. ring.
Qed.

Lemma alignment_coefficient_nonneg : 0 <= alignment_coefficient.
Proof. apply rsum_nonneg. intros x Hx. apply Rmult_le_pos; auto. Qed.

Lemma alignment_0 : alignment 0 = 0.
Proof.
  rewrite alignment_formula. apply rsum_zero. intros x Hx.
  rewrite (rsum_zero idx); [ring|]. intros i Hi. rewrite pull_0 by auto. ring.
Qed.

(** ** alignment(e) = e A + o(e) *)
Theorem alignment_derivative : is_derive alignment 0 alignment_coefficient.
Proof.
  apply (is_derive_ext (fun e => rsum data (fun x => w x * rsum idx (fun i => pull x e i * logit_tangent x i)))).
  { intros t. symmetry. apply alignment_formula. }
  apply (is_derive_rsum data (fun x e => w x * rsum idx (fun i => pull x e i * logit_tangent x i))).
  intros x Hx. apply @is_derive_scal.
  apply (is_derive_rsum idx (fun i e => pull x e i * logit_tangent x i)). intros i Hi.
  apply (is_derive_scal_l (K := R_AbsRing) (V := R_NormedModule) (fun e => pull x e i) 0 (pull' x i)
    (logit_tangent x i)).
  apply pull_derive; auto.
Qed.

(** If the leading term vanishes, so does everything: this is what the null-space condition buys. *)
Theorem alignment_vanishes : alignment_coefficient = 0 -> forall e, alignment e = 0.
Proof.
  intros HA e. rewrite alignment_formula. apply rsum_zero. intros x Hx.
  assert (Hn : forall x, In x data -> 0 <= w x * rsum idx (fun i => pull' x i * logit_tangent x i))
    by (intros; apply Rmult_le_pos; auto).
  assert (H := rsum_nonneg_zero _ _ Hn HA x Hx). simpl in H.
  apply Rmult_integral in H. destruct H as [H|H].
  - rewrite H. ring.
  - rewrite (pull_null x Hx H). ring.
Qed.

(** ** Lemma 1, sharp form: the alignment is zero for ALL e, or positive for all small e > 0 *)
Theorem lemma1_sharp :
  (forall e, alignment e = 0) \/ (exists e0, 0 < e0 /\ forall e, 0 < e < e0 -> 0 < alignment e).
Proof.
  destruct (Rle_lt_or_eq_dec _ _ alignment_coefficient_nonneg) as [H|H].
  - right. apply (pos_near_0 _ _ alignment_derivative alignment_0 H).
  - left. apply alignment_vanishes. auto.
Qed.

(** ** Lemma 1 of the paper: for all small e > 0 the student's update does not point away from the teacher's *)
Theorem lemma1 : exists e0, 0 < e0 /\ forall e, 0 < e < e0 -> 0 <= alignment e.
Proof.
  destruct lemma1_sharp as [H|[e0 [He0 H]]].
  - exists 1. split; [lra|]. intros e _. rewrite H. lra.
  - exists e0. split; auto. intros e He. left. auto.
Qed.

Lemma student_update_0 : student_update 0 = zero.
Proof.
  apply vsum_zero. intros x Hx. apply vsum_zero. intros i Hi.
  rewrite pull_0 by auto. rewrite Rmult_0_r. apply (scal_zero_l (V := V)).
Qed.

(** The student's update to first order: e G D, with G the Gauss-Newton matrix E[J^T M J]. *)
Definition student_velocity : V := vsum data (fun x => vsum idx (fun i => scal (w x * pull' x i) (J x i))).

Lemma student_update_derive : is_derive student_update 0 student_velocity.
Proof.
  apply (is_derive_vsum data (fun x e => vsum idx (fun i => scal (w x * pull x e i) (J x i)))). intros x Hx.
  apply (is_derive_vsum idx (fun i e => scal (w x * pull x e i) (J x i))). intros i Hi.
  apply (is_derive_scal_l (K := R_AbsRing)). apply @is_derive_scal. apply pull_derive; auto.
Qed.

Lemma velocity_alignment : P D student_velocity = alignment_coefficient.
Proof.
  unfold student_velocity. rewrite (ip_vsum P). unfold alignment_coefficient. apply rsum_ext. intros x Hx.
  rewrite (ip_vsum P), <- rsum_scal.
  apply rsum_ext. intros i Hi. rewrite (ip_scal P), (ip_sym P D). unfold logit_tangent. ring.
Qed.

(** ** Theorem 1 in a fixed metric
    Teacher and student both precondition their gradients with the same self-adjoint linear B: the teacher moved by
    D = B g, where -g is the gradient of ITS loss L_T at theta0, the student moves by alpha B dS. Then the student's
    step lowers L_T for all small e, unless the alignment is zero for all e. If only the student has B this is false
    (see [frozen_part_negative] for a B that is a projection). B does not depend on the gradients: Adam, sign
    descent and per-layer normalisation are not of this form. *)
Theorem theorem1_preconditioned (B : V -> V) (g : V) (LT : V -> R) (alpha : R) :
  is_linear B -> (forall u v, P u (B v) = P (B u) v) -> D = B g ->
  is_gradient P LT theta0 (opp g) -> 0 < alpha ->
  (forall e, alignment e = 0) \/
  (exists e0, 0 < e0 /\ forall e, 0 < e < e0 ->
     0 < alignment e /\ LT (plus theta0 (scal alpha (B (student_update e)))) < LT theta0).
Proof.
  intros HB HBsym HD LT_grad alpha_pos.
  destruct (Rle_lt_or_eq_dec _ _ alignment_coefficient_nonneg) as [H|H];
    [right|left; apply alignment_vanishes; auto].
  destruct (pos_near_0 _ _ alignment_derivative alignment_0 H) as [e1 [He1 Hd1]].
  set (u := fun e : R => plus theta0 (scal alpha (B (student_update e)))).
  assert (Hu0 : u 0 = theta0).
  { unfold u. rewrite student_update_0, (linear_zero B HB), (scal_zero_r (V := V)). apply plus_zero_r. }
  assert (Hu : is_derive u 0 (scal alpha (B student_velocity))).
  { evar_last.
    - apply @is_derive_plus; [apply @is_derive_const|].
      apply is_derive_scal_vec. apply (path_derive student_update student_velocity B B 0 student_update_derive).
      apply filterdiff_linear. exact HB.
    - apply plus_zero_l. }
  assert (HL : is_derive (fun e => LT (u e)) 0 (- (alpha * alignment_coefficient))).
  { evar_last.
    - apply (gradient_along P u _ LT (opp g) 0 Hu). rewrite Hu0. exact LT_grad.
    - rewrite (ip_scal P), (ip_sym P), (ip_opp P), (ip_sym P), HBsym, <- HD, velocity_alignment. ring. }
  destruct (pos_near_0 (fun e => LT theta0 - LT (u e)) (alpha * alignment_coefficient)) as [e2 [He2 Hd2]].
  - evar_last. apply @is_derive_minus; [apply @is_derive_const | apply HL].
    unfold minus, plus, opp, zero; simpl. ring.
  - rewrite Hu0. ring.
  - apply Rmult_lt_0_compat; auto.
  - exists (Rmin e1 e2). split; [apply Rmin_pos; auto|]. intros e [Ha Hb].
    assert (e < e1) by (eapply Rlt_le_trans; [exact Hb|apply Rmin_l]).
    assert (e < e2) by (eapply Rlt_le_trans; [exact Hb|apply Rmin_r]).
    split; [apply Hd1; lra|]. specialize (Hd2 e ltac:(lra)). unfold u in Hd2. lra.
Qed.

(** ** Theorem 1 of the paper: the teacher took one gradient step on L_T, any loss differentiable at theta0.
    Then the student's step, of any fixed size alpha > 0, lowers L_T for all small e, unless the alignment is zero
    for all e. *)
Theorem theorem1 (LT : V -> R) (alpha : R) :
  is_gradient P LT theta0 (opp D) -> 0 < alpha ->
  (forall e, alignment e = 0) \/
  (exists e0, 0 < e0 /\ forall e, 0 < e < e0 ->
     0 < alignment e /\ LT (plus theta0 (scal alpha (student_update e))) < LT theta0).
Proof.
  intros HLT Ha. apply (theorem1_preconditioned (fun v => v) D LT alpha); auto. apply is_linear_id.
Qed.

(** ** An invisible teacher transmits nothing
    If the gradients of the distilled logits are orthogonal to the teacher's update (for instance because they depend
    on other parameters), the alignment is zero for every e, small or not. No condition on the loss. *)
Theorem orthogonal_transmits_nothing :
  (forall x i, In x data -> In i idx -> P (J x i) D = 0) -> forall e, alignment e = 0.
Proof.
  intros H e. rewrite alignment_formula. apply rsum_zero. intros x Hx.
  rewrite (rsum_zero idx); [ring|]. intros i Hi. unfold logit_tangent. rewrite H by auto. ring.
Qed.
End Alignment.

(** ** Separate parameters: a single linear layer transmits nothing, in any number of steps
    Parameters split into a class block U and an auxiliary block W, and the distilled logits depend on the auxiliary
    block only, so that their gradients have no class part. Then the student's update has no class part either: the
    class block never moves, whatever the teacher did and whatever the pull. *)
Theorem class_block_never_moves {U W : NormedModule R_AbsRing} {X I : Type} (idx : list I) (data : list X)
  (w : X -> R) (J : X -> I -> prod_NormedModule R_AbsRing U W) (pull : X -> R -> I -> R) :
  (forall x i, fst (J x i) = zero) -> forall e, fst (student_update idx data w J pull e) = zero.
Proof.
  intros H e. unfold student_update.
  assert (Hs : forall (B : Type) (l : list B) (g : B -> prod_NormedModule R_AbsRing U W),
    (forall b, fst (g b) = zero) -> fst (vsum l g) = zero).
  { intros B l g Hg. induction l as [|b l IH]; simpl; [reflexivity|]. rewrite Hg, IH. apply plus_zero_l. }
  apply Hs. intros x. apply Hs. intros i. simpl. rewrite H. apply (scal_zero_r (V := U)).
Qed.
