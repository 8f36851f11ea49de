(** * Many steps of distillation, to first order in e

    With exact logits as targets, the distance left to the teacher, w_t = (theta_T - theta_S,t) / e, obeys
    w_{t+1} = (I - alpha G_b) w_t with w_0 = D, where G_b is the Gauss-Newton matrix E_b[J^T M J] of the batch of
    step t. This file proves what that recursion implies, and that a student's true, nonlinear trajectory follows it
    to first order. GradientSteps.v shows that gradient descent on cross-entropy or squared error is such a student. *)
Require Import Reals List Lra Psatz.
From Coquelicot Require Import Coquelicot.
From Sublim Require Import Sums Derivatives InnerProduct.
Import ListNotations.
Open Scope R_scope.

(** Cauchy-Schwarz for any symmetric positive semi-definite form. *)
Lemma cauchy_schwarz {V : NormedModule R_AbsRing} (Q : pairing V) :
  (forall v, 0 <= Q v v) -> forall u v, Q u v ^ 2 <= Q u u * Q v v.
Proof.
  intros Hpos u v.
  assert (H : forall t, 0 <= Q u u - 2 * t * Q u v + t ^ 2 * Q v v).
  { intros t. pose proof (Hpos (minus u (scal t v))) as H.
    rewrite (ip_minus Q), !(ip_minus_l Q), !(ip_scal Q), !(ip_scal_l Q), (ip_sym Q v u) in H.
    eapply Rle_trans; [exact H|]. right. ring. }
  pose proof (Hpos u). destruct (Req_dec (Q v v) 0) as [Hv|Hv].
  - rewrite Hv. assert (Q u v = 0); [|nra].
    destruct (Req_dec (Q u v) 0) as [?|Hne]; auto.
    specialize (H ((Q u u + 1) / (2 * Q u v))). rewrite Hv in H.
    replace (2 * ((Q u u + 1) / (2 * Q u v)) * Q u v) with (Q u u + 1) in H by (field; auto). lra.
  - pose proof (Hpos v). assert (0 < Q v v) by lra.
    specialize (H (Q u v / Q v v)).
    apply (Rmult_le_compat_l (Q v v)) in H; [|lra].
    replace (Q v v * (Q u u - 2 * (Q u v / Q v v) * Q u v + (Q u v / Q v v) ^ 2 * Q v v))
      with (Q u u * Q v v - Q u v ^ 2) in H by (field; auto). lra.
Qed.

Section MultiStep.
Context {V : NormedModule R_AbsRing}.
Variable P : pairing V.
Hypothesis P_pos : forall v, 0 <= P v v.

(** [gram G L]: G is self-adjoint and positive semi-definite, and L bounds its largest eigenvalue. *)
Definition gram (G : V -> V) (L : R) : Prop :=
  (forall u v, P (G u) v = P u (G v)) /\ (forall u, 0 <= P (G u) u) /\ (forall u, P (G u) u <= L * P u u).

(** |G u|^2 <= lambda_max <G u, u>. *)
Lemma gram_bound G L : gram G L -> forall u, P (G u) (G u) <= L * P (G u) u.
Proof.
  intros [Hsym [Hpsd HL]] u.
  assert (H1 : forall g u v, P (G g) (plus u v) = P (G g) u + P (G g) v) by (intros; apply (ip_plus P)).
  assert (H2 : forall g c v, P (G g) (scal c v) = c * P (G g) v) by (intros; apply (ip_scal P)).
  assert (H3 : forall u v, P (G u) v = P (G v) u) by (intros; rewrite Hsym; apply (ip_sym P)).
  pose proof (cauchy_schwarz (Pairing V (fun a b => P (G a) b) H1 H2 H3) Hpsd u (G u)) as H. simpl in H.
  pose proof (HL (G u)) as HLv. pose proof (HL u) as HLu. pose proof (Hpsd u) as Hq. pose proof (P_pos (G u)) as Hn.
  pose proof (P_pos u) as Hu. pose proof (Hpsd (G u)) as Hv.
  set (n := P (G u) (G u)) in *. set (q := P (G u) u) in *. set (r := P (G (G u)) (G u)) in *.
  destruct (Req_dec n 0) as [E|E].
  - rewrite E. destruct (Req_dec q 0) as [Eq|Eq]; [rewrite Eq; lra|].
    assert (0 < L) by (destruct (Rle_lt_dec L 0); [nra|auto]). nra.
  - assert (0 < n) by lra. apply (Rmult_le_reg_l n); auto. nra.
Qed.

(** ** The cosine between the student's first update and the teacher's
    To first order the student moves along G D. cos^2(G D, D) = A^2 / (|G D|^2 |D|^2) >= A / (lambda_max |D|^2). *)
Theorem cosine_rayleigh_bound G L D : gram G L -> 0 < P (G D) D -> 0 < L ->
  P (G D) D / (L * P D D) <= P (G D) D ^ 2 / (P (G D) (G D) * P D D).
Proof.
  intros HG HA HL. pose proof (gram_bound G L HG D) as Hb. destruct HG as [Hsym [Hpsd HLb]].
  pose proof (HLb D). pose proof (P_pos D). assert (HD : 0 < P D D) by (destruct (Req_dec (P D D) 0); nra).
  pose proof (cauchy_schwarz P P_pos (G D) D) as Hcs. pose proof (P_pos (G D)).
  assert (Hn : 0 < P (G D) (G D)) by (destruct (Req_dec (P (G D) (G D)) 0) as [E|E]; [rewrite E in Hcs; nra|lra]).
  set (A := P (G D) D) in *. set (n := P (G D) (G D)) in *. set (d := P D D) in *.
  apply (Rmult_le_reg_l (L * d * n)); [apply Rmult_lt_0_compat; nra|].
  replace (L * d * n * (A / (L * d))) with (n * A) by (field; lra).
  replace (L * d * n * (A ^ 2 / (n * d))) with (L * A * A) by (field; lra). nra.
Qed.

(** ** One step does not increase the distance, for any batch, if alpha <= 2 / lambda_max *)
Theorem step_contracts G L alpha w : gram G L -> 0 <= alpha -> alpha * L <= 2 ->
  let w' := minus w (scal alpha (G w)) in P w' w' <= P w w - alpha * (2 - alpha * L) * P (G w) w.
Proof.
  intros HG Ha HaL w'. unfold w'. pose proof (gram_bound G L HG w) as Hb.
  rewrite (ip_minus P), !(ip_minus_l P), !(ip_scal P), !(ip_scal_l P), (ip_sym P w (G w)).
  assert (alpha ^ 2 * P (G w) (G w) <= alpha ^ 2 * (L * P (G w) w)) by (apply Rmult_le_compat_l; nra). nra.
Qed.

(** A schedule is a list of steps: a learning rate and the Gauss-Newton matrix of the batch, in the order of training. *)
Definition admissible (s : R * (V -> V)) : Prop := 0 <= fst s /\ exists L, gram (snd s) L /\ fst s * L <= 2.

Fixpoint residual (steps : list (R * (V -> V))) (w : V) : V :=
  match steps with
  | [] => w
  | (alpha, G) :: rest => residual rest (minus w (scal alpha (G w)))
  end.

(** ** |w_t| never increases, whatever the order of the batches *)
Theorem residual_non_increasing steps w : List.Forall admissible steps ->
  P (residual steps w) (residual steps w) <= P w w.
Proof.
  revert w. induction steps as [|[alpha G] rest IH]; intros w H; simpl; [lra|].
  inversion H as [|s l [Ha [L [HG HaL]]] Hrest]; subst. simpl in *.
  eapply Rle_trans; [apply IH; auto|].
  pose proof (step_contracts G L alpha w HG Ha HaL) as Hc. simpl in Hc. destruct HG as [_ [Hpsd _]].
  pose proof (Hpsd w). assert (0 <= alpha * (2 - alpha * L)) by nra. nra.
Qed.

(** ** The cumulative displacement D - w_t never points away from D; if |w_t| <= rho |D| it has (1 - rho) |D|^2 along D *)
Theorem cumulative_alignment_bound D w rho : 0 <= rho -> P w w <= rho ^ 2 * P D D ->
  (1 - rho) * P D D <= P D (minus D w).
Proof.
  intros Hr Hw. pose proof (cauchy_schwarz P P_pos D w) as Hcs. rewrite (ip_minus P).
  pose proof (P_pos D) as HD. assert (P D w <= rho * P D D); [|lra].
  apply Rnot_lt_le. intros Hlt. assert (0 <= rho * P D D) by nra.
  assert ((rho * P D D) ^ 2 < P D w ^ 2) by nra. nra.
Qed.

Theorem cumulative_alignment_nonneg steps D : List.Forall admissible steps -> 0 <= P D (minus D (residual steps D)).
Proof.
  intros H. pose proof (residual_non_increasing steps D H).
  pose proof (cumulative_alignment_bound D (residual steps D) 1 ltac:(lra) ltac:(lra)). lra.
Qed.

(** ** Step by step, the sign needs more: full batch and alpha <= 1 / lambda_max, or an even number of steps.
    Minibatches give no sign for a single step ([single_step_sign_lost] in Counterexamples.v). *)
Definition iterate (alpha : R) (G : V -> V) (t : nat) (D : V) : V := residual (repeat (alpha, G) t) D.

Lemma iterate_succ alpha G t D :
  iterate alpha G (S t) D = minus (iterate alpha G t D) (scal alpha (G (iterate alpha G t D))).
Proof.
  unfold iterate. revert D. induction t as [|t IH]; intros D; [reflexivity|].
  simpl repeat. simpl residual. rewrite <- IH. reflexivity.
Qed.

Lemma iterate_shift alpha G D : (forall u v, P (G u) v = P u (G v)) -> forall a b,
  P (iterate alpha G (S a) D) (G (iterate alpha G b D)) = P (iterate alpha G a D) (G (iterate alpha G (S b) D)).
Proof.
  intros Hsym a b. rewrite <- (Hsym (iterate alpha G a D)). rewrite !iterate_succ.
  rewrite (ip_minus_l P), (ip_minus P), (ip_scal_l P), (ip_scal P).
  rewrite (Hsym (iterate alpha G a D) (iterate alpha G b D)). reflexivity.
Qed.

Lemma iterate_split alpha G D : (forall u v, P (G u) v = P u (G v)) -> forall a b,
  P D (G (iterate alpha G (a + b) D)) = P (iterate alpha G a D) (G (iterate alpha G b D)).
Proof.
  intros Hsym a. induction a as [|a IH]; intros b; [reflexivity|].
  replace (S a + b)%nat with (a + S b)%nat by (rewrite Nat.add_succ_r; reflexivity).
  rewrite IH. symmetry. apply iterate_shift. exact Hsym.
Qed.

Theorem even_step_alignment_nonneg alpha G L D : gram G L -> forall k, 0 <= P D (G (iterate alpha G (k + k) D)).
Proof.
  intros [Hsym [Hpsd _]] k. rewrite iterate_split by exact Hsym. rewrite <- Hsym. apply Hpsd.
Qed.

Theorem full_batch_step_alignment_nonneg alpha G L D : gram G L -> 0 <= alpha -> alpha * L <= 1 ->
  forall t, 0 <= P D (G (iterate alpha G t D)).
Proof.
  intros HG Ha HaL t. destruct (Nat.Even_or_Odd t) as [[k ->]|[k ->]].
  - replace (2 * k)%nat with (k + k)%nat by (simpl; rewrite Nat.add_0_r; reflexivity).
    eapply even_step_alignment_nonneg. exact HG.
  - replace (2 * k + 1)%nat with (S k + k)%nat by (simpl; rewrite Nat.add_0_r, Nat.add_1_r; reflexivity).
    pose proof (gram_bound G L HG (iterate alpha G k D)) as Hb. destruct HG as [Hsym [Hpsd _]].
    rewrite iterate_split, iterate_succ by exact Hsym. set (u := iterate alpha G k D) in *.
    rewrite (ip_minus_l P), (ip_scal_l P), <- Hsym. pose proof (Hpsd u) as Hq.
    assert (alpha * P (G u) (G u) <= alpha * (L * P (G u) u)) by (apply Rmult_le_compat_l; auto). nra.
Qed.

(** ** The true trajectory follows the recursion
    A step of training is a map Phi(theta, e) on parameters. It fixes theta0 at e = 0 (the student already agrees with
    its teacher) and is Frechet-differentiable at (theta0, 0) with derivative
    (h, k) -> h - alpha G h + k alpha G D. Nothing else is asked of Phi. *)
Variable theta0 D : V.

Record training_step := TrainingStep {
  Phi : V -> R -> V;
  rate : R;
  G_of : V -> V;
  G_linear : is_linear G_of;
  Phi_fixes : Phi theta0 0 = theta0;
  Phi_derive : filterdiff (fun p : prod_NormedModule R_AbsRing V R_NormedModule => Phi (fst p) (snd p))
    (locally (theta0, 0 : R))
    (fun h => plus (minus (fst h) (scal rate (G_of (fst h)))) (scal (snd h) (scal rate (G_of D)))) }.

Definition schedule (steps : list training_step) : list (R * (V -> V)) := map (fun s => (rate s, G_of s)) steps.

Fixpoint trajectory (steps : list training_step) (theta : V) (e : R) : V :=
  match steps with
  | [] => theta
  | s :: rest => trajectory rest (Phi s theta e) e
  end.

Lemma double_minus (a b : V) : minus a (minus a b) = b.
Proof.
  unfold minus at 1. rewrite (opp_minus (G := V)). unfold minus.
  rewrite (plus_comm (G := V) a), <- (plus_assoc (G := V)), plus_opp_l. apply plus_zero_r.
Qed.

Lemma step_algebra (a u p q : V) : plus (minus u q) p = minus a (minus (minus a u) (minus p q)).
Proof.
  transitivity (plus a (minus (minus p q) (minus a u))).
  - transitivity (plus a (plus (plus (opp a) u) (plus p (opp q)))).
    + rewrite !(plus_assoc (G := V)), plus_opp_r, plus_zero_l.
      unfold minus. rewrite <- !(plus_assoc (G := V)). f_equal. apply (plus_comm (G := V)).
    + f_equal. unfold minus at 1. rewrite (opp_minus (G := V)), (plus_comm (G := V) (minus p q)).
      unfold minus. rewrite (plus_comm (G := V) u). reflexivity.
  - unfold minus at 4. rewrite (opp_minus (G := V)). reflexivity.
Qed.

Lemma path_pair (u : R -> V) du : is_derive u 0 du ->
  is_derive (fun e : R => (u e, e) : prod_NormedModule R_AbsRing V R_NormedModule) 0 (du, 1 : R).
Proof.
  intros Hu. unfold is_derive. eapply filterdiff_ext_lin.
  - apply (filterdiff_comp_2 (fun e => u e) (fun e : R => e)
      (fun (a : V) (b : R) => (a, b) : prod_NormedModule R_AbsRing V R_NormedModule)
      (fun k : R => scal k du) (fun k : R => k) (fun a b => (a, b))).
    + exact Hu.
    + apply filterdiff_id.
    + eapply filterdiff_ext_lin; [eapply filterdiff_ext; [|apply filterdiff_id]|].
      * intros [a b]. reflexivity.
      * intros [a b]. reflexivity.
  - intros k. simpl. unfold scal at 2; simpl. unfold prod_scal, scal; simpl. unfold mult; simpl.
    f_equal. rewrite Rmult_1_r. reflexivity.
Qed.

Lemma trajectory_from steps : forall (u : R -> V) du, u 0 = theta0 -> is_derive u 0 du ->
  trajectory steps (u 0) 0 = theta0 /\
  is_derive (fun e => trajectory steps (u e) e) 0 (minus D (residual (schedule steps) (minus D du))).
Proof.
  induction steps as [|s rest IH]; intros u du Hu0 Hu.
  - simpl. split; auto. evar_last; [exact Hu|]. symmetry. apply double_minus.
  - set (u' := fun e => Phi s (u e) e).
    assert (Hd : is_derive u' 0 (minus D (minus (minus D du) (scal (rate s) (G_of s (minus D du)))))).
    { evar_last.
      - apply (path_derive (V := prod_NormedModule R_AbsRing V R_NormedModule) (fun e : R => (u e, e)) (du, 1 : R)
          (fun p => Phi s (fst p) (snd p))
          (fun h => plus (minus (fst h) (scal (rate s) (G_of s (fst h)))) (scal (snd h) (scal (rate s) (G_of s D))))).
        + apply path_pair. exact Hu.
        + simpl. rewrite Hu0. apply Phi_derive.
      - simpl.
        assert (HGm : G_of s (minus D du) = minus (G_of s D) (G_of s du)).
        { unfold minus. rewrite (linear_plus _ (G_linear s)), (linear_opp _ _ (G_linear s)). reflexivity. }
        rewrite HGm, (scal_one (V := V)), (scal_minus_distr_l (V := V)).
        apply step_algebra. }
    assert (Hz : u' 0 = theta0) by (unfold u'; rewrite Hu0; apply Phi_fixes).
    destruct (IH u' _ Hz Hd) as [IH1 IH2]. split; [exact IH1|].
    simpl trajectory. unfold u' in *. evar_last; [exact IH2|].
    simpl. f_equal. f_equal. apply double_minus.
Qed.

Theorem trajectory_derivative steps :
  is_derive (fun e => trajectory steps theta0 e) 0 (minus D (residual (schedule steps) D)).
Proof.
  destruct (trajectory_from steps (fun _ => theta0) zero) as [_ H]; [reflexivity|apply @is_derive_const|].
  evar_last; [exact H|]. unfold minus. rewrite (opp_zero (G := V)), plus_zero_r. reflexivity.
Qed.

Lemma trajectory_at_0 steps : trajectory steps theta0 0 = theta0.
Proof. destruct (trajectory_from steps (fun _ => theta0) zero); auto. apply @is_derive_const. Qed.

(** ** Any number of steps, any batches, alpha_t <= 2 / lambda_max(G_t): the student's total displacement has
    non-negative inner product with D to first order in e; if the first-order term is positive, the inner product
    itself is positive for all small e *)
Theorem multi_step_alignment steps :
  is_linear (fun v => P D v) -> List.Forall admissible (schedule steps) ->
  let slope := P D (minus D (residual (schedule steps) D)) in
  is_derive (fun e => P D (minus (trajectory steps theta0 e) theta0)) 0 slope /\ 0 <= slope /\
  (0 < slope -> exists e0, 0 < e0 /\ forall e, 0 < e < e0 -> 0 < P D (minus (trajectory steps theta0 e) theta0)).
Proof.
  intros Hlin H slope.
  assert (Hd : is_derive (fun e => P D (minus (trajectory steps theta0 e) theta0)) 0 slope).
  { apply (is_derive_ext (fun e => minus (P D (trajectory steps theta0 e)) (P D theta0))).
    { intros e. symmetry. apply (ip_minus P). }
    evar_last.
    - apply @is_derive_minus; [|apply @is_derive_const].
      apply (path_derive (W := R_NormedModule) (trajectory steps theta0) _ (fun v => P D v) (fun v => P D v) 0
        (trajectory_derivative steps)).
      apply filterdiff_linear. exact Hlin.
    - unfold slope, minus, plus, opp, zero; simpl. ring. }
  split; [exact Hd|]. split; [apply cumulative_alignment_nonneg; exact H|].
  intros Hs. apply (pos_near_0 _ slope Hd); auto.
  rewrite trajectory_at_0, (ip_minus P). ring.
Qed.

(** ** Theorem 1 for many steps: the teacher's own loss falls by that amount to first order *)
Theorem multi_step_lowers_teacher_loss steps (LT : V -> R) :
  is_gradient P LT theta0 (opp D) -> List.Forall admissible (schedule steps) ->
  let slope := P D (minus D (residual (schedule steps) D)) in
  is_derive (fun e => LT (trajectory steps theta0 e)) 0 (- slope) /\ 0 <= slope /\
  (0 < slope -> exists e0, 0 < e0 /\ forall e, 0 < e < e0 -> LT (trajectory steps theta0 e) < LT theta0).
Proof.
  intros HLT H slope.
  assert (Hd : is_derive (fun e => LT (trajectory steps theta0 e)) 0 (- slope)).
  { evar_last.
    - apply (gradient_along P _ _ LT (opp D) 0 (trajectory_derivative steps)). rewrite trajectory_at_0. exact HLT.
    - unfold slope. rewrite (ip_sym P), (ip_opp P), (ip_sym P). reflexivity. }
  split; [exact Hd|]. split; [apply cumulative_alignment_nonneg; exact H|].
  intros Hs. destruct (pos_near_0 (fun e => LT theta0 - LT (trajectory steps theta0 e)) slope) as [e0 [He0 Hp]]; auto.
  - evar_last. apply @is_derive_minus; [apply @is_derive_const|exact Hd].
    unfold minus, plus, opp, zero; simpl. ring.
  - rewrite trajectory_at_0. ring.
  - exists e0. split; auto. intros e He. specialize (Hp e He). lra.
Qed.
End MultiStep.
