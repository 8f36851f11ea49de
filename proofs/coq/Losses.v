(** * Any loss whose minimum is at z = y

    The paper's relaxation asks that M = - d_y d_z l be symmetric and positive semi-definite EVERYWHERE. On the
    diagonal z = y, the only place where it matters, this follows from the minimum: differentiating d_z l(y, y) = 0
    gives M = d_z d_z l, the Hessian of l(., y) at its minimum, which is symmetric and >= 0. *)
Require Import Reals List Lra Psatz Lia.
From Coquelicot Require Import Coquelicot.
From Sublim Require Import Sums Derivatives InnerProduct Alignment Vectors.
Open Scope R_scope.

(** ** On the diagonal, in any normed space of logits *)
Section Diagonal.
Context {E : NormedModule R_AbsRing}.
Variable l : E -> E -> R.                          (* l z y: loss of student logits z against teacher logits y *)
Variable g : E -> E -> E -> R.                     (* g z y u: derivative of l(., y) at z in direction u *)
Hypothesis l_minimum : forall z y, l y y <= l z y.
Hypothesis l_derive : forall z y, filterdiff (V := R_NormedModule) (fun z => l z y) (locally z) (g z y).
Variable z0 : E.
(** The derivative in z is itself Frechet-differentiable in (z, y) at the one point (z0, z0). *)
Variable L : E -> prod_NormedModule R_AbsRing E E -> R.
Hypothesis g_derive : forall u,
  filterdiff (V := R_NormedModule) (fun p : prod_NormedModule R_AbsRing E E => g (fst p) (snd p) u)
    (locally (z0, z0)) (L u).

Definition hessian (u h : E) : R := L u (h, zero).   (* d_z d_z l *)
Definition mixed (u k : E) : R := L u (zero, k).     (* d_y d_z l *)

Lemma hessian_mixed_sum u h k : L u (h, k) = hessian u h + mixed u k.
Proof.
  unfold hessian, mixed. change Rplus with (@plus R_AbelianGroup). rewrite <- (linear_plus _ (proj1 (g_derive u))).
  f_equal. unfold plus; simpl. unfold prod_plus; simpl. rewrite plus_zero_r, plus_zero_l. reflexivity.
Qed.

Lemma mixed_zero u : mixed u zero = 0.
Proof. unfold mixed. apply (linear_zero (L u) (proj1 (g_derive u))). Qed.

(** d_z l(y, y) = 0. *)
Theorem pull_vanishes_on_diagonal y u : g y y u = 0.
Proof.
  apply (minimum_derive_0 (fun t => l (plus y (scal t u)) y)).
  - apply (path_derive (W := R_NormedModule) (fun t => plus y (scal t u)) u (fun z => l z y) (g y y) 0).
    + apply line_derive.
    + rewrite line_at_0. apply l_derive.
  - intros t. rewrite line_at_0. apply l_minimum.
Qed.

Lemma pair_path (u1 u2 : R -> E) d1 d2 t : is_derive u1 t d1 -> is_derive u2 t d2 ->
  is_derive (fun e => (u1 e, u2 e) : prod_NormedModule R_AbsRing E E) t (d1, d2).
Proof.
  intros H1 H2. unfold is_derive. eapply filterdiff_ext_lin.
  - apply (filterdiff_comp'_2 u1 u2 (fun (a b : E) => (a, b) : prod_NormedModule R_AbsRing E E) t
      (fun k : R => scal k d1) (fun k : R => scal k d2) (fun a b => (a, b))); auto.
    eapply filterdiff_ext_lin; [eapply filterdiff_ext; [|apply filterdiff_id]|]; intros [a b]; reflexivity.
  - intros k. reflexivity.
Qed.

Lemma g_along (u1 u2 : R -> E) d1 d2 u : u1 0 = z0 -> u2 0 = z0 -> is_derive u1 0 d1 -> is_derive u2 0 d2 ->
  is_derive (fun t => g (u1 t) (u2 t) u) 0 (hessian u d1 + mixed u d2).
Proof.
  intros E1 E2 H1 H2. rewrite <- hessian_mixed_sum.
  apply (path_derive (V := prod_NormedModule R_AbsRing E E) (W := R_NormedModule) (fun t => (u1 t, u2 t)) (d1, d2)
    (fun p => g (fst p) (snd p) u) (L u) 0).
  - apply pair_path; auto.
  - rewrite E1, E2. apply g_derive.
Qed.

(** ** M = - d_y d_z l = d_z d_z l *)
Theorem mixed_is_minus_hessian u h : - mixed u h = hessian u h.
Proof.
  assert (H : is_derive (fun t : R => g (plus z0 (scal t h)) (plus z0 (scal t h)) u) 0 (hessian u h + mixed u h)).
  { apply (g_along (fun t => plus z0 (scal t h)) (fun t => plus z0 (scal t h)));
      try apply line_at_0; apply line_derive. }
  assert (H0 : is_derive (fun t : R => g (plus z0 (scal t h)) (plus z0 (scal t h)) u) 0 0).
  { apply (is_derive_ext (fun _ => 0)); [|apply @is_derive_const].
    intros t. symmetry. apply pull_vanishes_on_diagonal. }
  pose proof (is_derive_unique _ _ _ H). pose proof (is_derive_unique _ _ _ H0). lra.
Qed.

(** ** M is positive semi-definite *)
Theorem hessian_psd u : 0 <= hessian u u.
Proof.
  apply (minimum_derive2_nonneg (fun t => l (plus z0 (scal t u)) z0) (fun t => g (plus z0 (scal t u)) z0 u)).
  - intros t. apply (path_derive (W := R_NormedModule) (fun t => plus z0 (scal t u)) u (fun z => l z z0)).
    + apply line_derive.
    + apply l_derive.
  - evar_last.
    + apply (g_along (fun t => plus z0 (scal t u)) (fun _ => z0) u zero u); auto.
      * apply line_at_0.
      * apply line_derive.
      * apply @is_derive_const.
    + rewrite mixed_zero. ring.
  - intros t. rewrite line_at_0. apply l_minimum.
Qed.

(** ** M is symmetric
    Only differentiability at z0 is known, not continuity of the second derivative, so the usual theorem on equality of
    mixed partials does not apply; the second difference of l is compared with both. *)
Lemma hessian_plus u h1 h2 : hessian u (plus h1 h2) = hessian u h1 + hessian u h2.
Proof.
  unfold hessian. change Rplus with (@plus R_AbelianGroup). rewrite <- (linear_plus _ (proj1 (g_derive u))).
  f_equal. unfold plus; simpl. unfold prod_plus; simpl. rewrite plus_zero_r. reflexivity.
Qed.
Lemma hessian_scal u c h : hessian u (scal c h) = c * hessian u h.
Proof.
  unfold hessian. change (c * L u (h, zero)) with (scal (V := R_ModuleSpace) c (L u (h, zero))).
  rewrite <- (linear_scal _ (proj1 (g_derive u))).
  f_equal. unfold scal; simpl. unfold prod_scal; simpl. rewrite (scal_zero_r (V := E)). reflexivity.
Qed.

Lemma g_near u (eps : posreal) : exists d : posreal, forall k : E, norm k < d ->
  Rabs (g (plus z0 k) z0 u - hessian u k) <= eps * norm k.
Proof.
  pose proof (filterdiff_comp' (K := R_AbsRing) (U := E) (V := prod_NormedModule R_AbsRing E E) (W := R_NormedModule)
    (fun z : E => (z, z0)) (fun p => g (fst p) (snd p) u) z0 (fun h => (h, zero)) (L u)) as H.
  destruct H as [_ H].
  - apply (filterdiff_comp'_2 (fun z : E => z) (fun _ : E => z0)
      (fun (a b : E) => (a, b) : prod_NormedModule R_AbsRing E E) z0 (fun h => h) (fun _ => zero) (fun a b => (a, b))).
    + apply filterdiff_id.
    + apply filterdiff_const.
    + eapply filterdiff_ext_lin; [eapply filterdiff_ext; [|apply filterdiff_id]|]; intros [a b]; reflexivity.
  - apply g_derive.
  - specialize (H z0 (fun P H => H) eps). apply locally_norm_le_locally in H. destruct H as [d Hd].
    exists d. intros k Hk. specialize (Hd (plus z0 k)). simpl in Hd.
    assert (Hmk : minus (plus z0 k) z0 = k).
    { unfold minus. rewrite (plus_comm (G := E) z0), <- (plus_assoc (G := E)), plus_opp_r. apply plus_zero_r. }
    unfold ball_norm in Hd. rewrite Hmk in Hd. specialize (Hd Hk).
    rewrite pull_vanishes_on_diagonal in Hd. unfold hessian.
    replace (g (plus z0 k) z0 u - L u (k, zero))
      with (minus (minus (g (plus z0 k) z0 u) 0) (L u (k, zero))) by (unfold minus, plus, opp; simpl; ring).
    exact Hd.
Qed.

Let second_difference (u v : E) (t : R) : R :=
  l (plus z0 (plus (scal t u) (scal t v))) z0 - l (plus z0 (scal t u)) z0 - l (plus z0 (scal t v)) z0 + l z0 z0.

Lemma second_difference_near u v (eps : posreal) : exists d : posreal, forall t, 0 < t < d ->
  Rabs (second_difference u v t - t ^ 2 * hessian u v) <= eps * t ^ 2.
Proof.
  set (N := 2 * norm u + norm v + 1).
  assert (HN : 0 < N) by (pose proof (norm_ge_0 u); pose proof (norm_ge_0 v); unfold N; lra).
  assert (He : 0 < eps / N) by (apply Rdiv_lt_0_compat; [apply cond_pos|auto]).
  destruct (g_near u (mkposreal _ He)) as [d Hd]. simpl in Hd.
  assert (Hdp : 0 < d / N) by (apply Rdiv_lt_0_compat; [apply cond_pos|auto]).
  exists (mkposreal _ Hdp). intros t Ht. change (0 < t < d / N) in Ht.
  assert (HtN : t * N < d).
  { apply (Rmult_lt_reg_r (/ N)); [apply Rinv_0_lt_compat; auto|].
    rewrite Rmult_assoc, Rinv_r, Rmult_1_r by lra. apply Ht. }
  set (phi := fun s : R => l (plus (plus z0 (scal t v)) (scal s u)) z0 - l (plus z0 (scal s u)) z0).
  destruct (mean_value phi
    (fun s : R => g (plus (plus z0 (scal t v)) (scal s u)) z0 u - g (plus z0 (scal s u)) z0 u) 0 t) as [s [Hs Hst]].
  - lra.
  - intros s _. unfold phi. apply @is_derive_minus.
    + apply (path_derive (W := R_NormedModule) (fun s : R => plus (plus z0 (scal t v)) (scal s u)) u (fun z => l z z0));
        [apply line_derive|apply l_derive].
    + apply (path_derive (W := R_NormedModule) (fun s : R => plus z0 (scal s u)) u (fun z => l z z0));
        [apply line_derive|apply l_derive].
  - assert (Hphi : second_difference u v t = phi t - phi 0).
    { unfold phi, second_difference. rewrite !line_at_0.
      assert (Hpc : plus (plus z0 (scal t v)) (scal t u) = plus z0 (plus (scal t u) (scal t v)))
        by (rewrite <- (plus_assoc (G := E)); f_equal; apply (plus_comm (G := E))).
      rewrite Hpc. ring. }
    rewrite Hphi, Hs, Rminus_0_r, <- (plus_assoc (G := E)).
    set (k2 := scal s u). set (k1 := plus (scal t v) k2).
    assert (Hk2 : norm k2 <= t * norm u).
    { unfold k2. eapply Rle_trans; [apply (norm_scal (V := E) s u)|]. unfold abs; simpl. rewrite Rabs_pos_eq by lra.
      apply Rmult_le_compat_r; [apply norm_ge_0|lra]. }
    assert (Hk1 : norm k1 <= t * norm v + t * norm u).
    { unfold k1. eapply Rle_trans; [apply (norm_triangle (V := E))|]. apply Rplus_le_compat; [|exact Hk2].
      eapply Rle_trans; [apply (norm_scal (V := E) t v)|]. unfold abs; simpl. rewrite Rabs_pos_eq by lra. lra. }
    assert (B1 : norm k1 < d).
    { eapply Rle_lt_trans; [exact Hk1|]. eapply Rle_lt_trans; [|exact HtN]. unfold N.
      pose proof (norm_ge_0 u). nra. }
    assert (B2 : norm k2 < d).
    { eapply Rle_lt_trans; [exact Hk2|]. eapply Rle_lt_trans; [|exact HtN]. unfold N.
      pose proof (norm_ge_0 u). pose proof (norm_ge_0 v). nra. }
    pose proof (Hd k1 B1) as C1. pose proof (Hd k2 B2) as C2.
    assert (Hh : hessian u k1 - hessian u k2 = t * hessian u v).
    { unfold k1. rewrite hessian_plus, hessian_scal. ring. }
    change (plus (scal t v) k2) with k1.
    set (a1 := g (plus z0 k1) z0 u) in *. set (a2 := g (plus z0 k2) z0 u) in *.
    replace ((a1 - a2) * t - t ^ 2 * hessian u v)
      with (t * ((a1 - hessian u k1) - (a2 - hessian u k2)))
      by (replace (t ^ 2 * hessian u v) with (t * (t * hessian u v)) by ring; rewrite <- Hh; ring).
    rewrite Rabs_mult, (Rabs_pos_eq t) by lra.
    replace (eps * t ^ 2) with (t * (eps / N * (t * N))) by (field; lra).
    apply Rmult_le_compat_l; [lra|].
    eapply Rle_trans; [apply Rabs_triang|]. rewrite Rabs_Ropp.
    eapply Rle_trans; [apply Rplus_le_compat; [exact C1|exact C2]|].
    rewrite <- Rmult_plus_distr_l. apply Rmult_le_compat_l; [lra|]. unfold N. nra.
Qed.

Theorem hessian_symmetric u v : hessian u v = hessian v u.
Proof.
  apply Rminus_diag_uniq. apply Rabs_eq_0. apply Rle_antisym; [|apply Rabs_pos].
  apply le_epsilon. intros eps Heps. rewrite Rplus_0_l.
  assert (H2 : 0 < eps / 2) by lra.
  destruct (second_difference_near u v (mkposreal _ H2)) as [d1 Hd1].
  destruct (second_difference_near v u (mkposreal _ H2)) as [d2 Hd2]. simpl in Hd1, Hd2.
  set (t := Rmin d1 d2 / 2).
  assert (Hm : 0 < Rmin d1 d2) by (apply Rmin_pos; apply cond_pos).
  pose proof (Rmin_l d1 d2). pose proof (Rmin_r d1 d2).
  assert (Ht1 : 0 < t < d1) by (unfold t; lra). assert (Ht2 : 0 < t < d2) by (unfold t; lra).
  specialize (Hd1 t Ht1). specialize (Hd2 t Ht2).
  assert (Hs : second_difference v u t = second_difference u v t).
  { assert (Hpc : plus (scal t v) (scal t u) = plus (scal t u) (scal t v)) by apply (plus_comm (G := E)).
    unfold second_difference. rewrite Hpc. ring. }
  rewrite Hs in Hd2. set (S := second_difference u v t) in *.
  apply (Rmult_le_reg_l (t ^ 2)); [nra|].
  rewrite <- (Rabs_pos_eq (t ^ 2)) at 1 by nra. rewrite <- Rabs_mult.
  replace (t ^ 2 * (hessian u v - hessian v u))
    with (- (S - t ^ 2 * hessian u v) + (S - t ^ 2 * hessian v u)) by ring.
  eapply Rle_trans; [apply Rabs_triang|]. rewrite Rabs_Ropp.
  replace (t ^ 2 * eps) with (eps / 2 * t ^ 2 + eps / 2 * t ^ 2) by field.
  apply Rplus_le_compat; assumption.
Qed.
End Diagonal.

(** ** Lemma 1 and Theorem 1 for every such loss on n logits
    The loss may differ from input to input. What is asked of it: z = y is a minimum of l(., y) for every y; it is
    differentiable in z; its derivative is differentiable at the diagonal point of each input. Positive
    semi-definiteness and symmetry are then theorems. The null-space condition stays a hypothesis, and
    [null_space_needed] in Counterexamples.v shows that it must. *)
Section MinimisedLoss.
Context {V : NormedModule R_AbsRing} {X : Type}.
Variable P : pairing V.
Variable n : nat.
Variable data : list X.
Variable w : X -> R.
Hypothesis w_nonneg : forall x, In x data -> 0 <= w x.
Variable f : V -> X -> nat -> R.
Variable theta0 : V.
Variable J : X -> nat -> V.
Hypothesis HJ : forall x i, In x data -> In i (seq 0 n) -> is_gradient P (fun th => f th x i) theta0 (J x i).
Variable D : V.

Let E := space (vector n).
Let EE := prod_NormedModule R_AbsRing E E.
Variable l : X -> E -> E -> R.
Variable g : X -> E -> E -> E -> R.
Hypothesis l_minimum : forall x z y, l x y y <= l x z y.
Hypothesis l_derive : forall x z y, filterdiff (V := R_NormedModule) (fun z => l x z y) (locally z) (g x z y).

Definition reference_logits (x : X) : E := of_entries (t := scalar) n (f theta0 x).
Definition teacher_vector (x : X) (e : R) : E := of_entries (t := scalar) n (teacher_logits f theta0 D x e).
Definition tangent_vector (x : X) : E := of_entries (t := scalar) n (logit_tangent P J D x).

Variable L : X -> E -> EE -> R.
Hypothesis g_derive : forall x u,
  filterdiff (V := R_NormedModule) (fun p : EE => g x (fst p) (snd p) u)
    (locally (reference_logits x, reference_logits x)) (L x u).

(** Where the quadratic form vanishes on the tangent, so does the pull along it, for every teacher reached. *)
Hypothesis null_space : forall x, In x data ->
  hessian (L x) (tangent_vector x) (tangent_vector x) = 0 ->
  forall e, g x (reference_logits x) (teacher_vector x e) (tangent_vector x) = 0.

Definition pull_min (x : X) (e : R) (i : nat) : R :=
  - g x (reference_logits x) (teacher_vector x e) (basis n i).
Let pull_min' (x : X) (i : nat) : R := hessian (L x) (basis n i) (tangent_vector x).
Let v := logit_tangent P J D.

Theorem minimised_loss_update_is_negative_gradient e :
  is_gradient P
    (fun th => rsum data (fun x => w x * l x (of_entries (t := scalar) n (f th x)) (teacher_vector x e))) theta0
    (opp (student_update (seq 0 n) data w J pull_min e)).
Proof.
  unfold is_gradient.
  eapply (filterdiff_ext_lin _ (fun h => rsum data (fun x => w x *
    g x (reference_logits x) (teacher_vector x e) (of_entries (t := scalar) n (fun i => P (J x i) h))))).
  - apply (filterdiff_rsum data (fun x th =>
      w x * l x (of_entries (t := scalar) n (f th x)) (teacher_vector x e))). intros x Hx.
    apply (filterdiff_scal_r_fct (K := R_AbsRing) (V := R_NormedModule)); [apply Rmult_comm|].
    apply (filterdiff_comp' (W := R_NormedModule) (fun th => of_entries (t := scalar) n (f th x) : E)
      (fun z => l x z (teacher_vector x e)) theta0 (fun h => of_entries (t := scalar) n (fun i => P (J x i) h))).
    + apply (filterdiff_of_entries scalar n (fun th => f th x) (fun i h => P (J x i) h)).
      intros i Hi. apply HJ; auto. apply in_seq. lia.
    + apply l_derive.
  - intros h. rewrite (ip_sym P), (ip_opp P). unfold student_update. rewrite (ip_vsum P), <- rsum_opp.
    apply rsum_ext. intros x Hx. rewrite (ip_vsum P).
    rewrite (linear_on_basis n (g x (reference_logits x) (teacher_vector x e))) by (apply (l_derive x)).
    rewrite <- rsum_scal, <- rsum_opp. apply rsum_ext. intros i Hi.
    rewrite (ip_scal P), (ip_sym P h). unfold pull_min. ring.
Qed.

Lemma hessian_on_tangent x u : hessian (L x) u (tangent_vector x) =
  rsum (seq 0 n) (fun i => hessian (L x) u (basis n i) * v x i).
Proof.
  unfold tangent_vector. apply (linear_on_basis n (fun h => hessian (L x) u h)). unfold hessian.
  apply (is_linear_comp (W := R_NormedModule) (fun h : E => (h, zero) : EE) (L x u)).
  - apply is_linear_prod; [apply is_linear_id|apply is_linear_zero].
  - apply (proj1 (g_derive x u)).
Qed.

Lemma quadratic_form x :
  rsum (seq 0 n) (fun i => pull_min' x i * v x i) = hessian (L x) (tangent_vector x) (tangent_vector x).
Proof.
  rewrite (hessian_on_tangent x (tangent_vector x)). apply rsum_ext. intros i _. unfold pull_min'. f_equal.
  apply (hessian_symmetric (l x) (g x) (l_minimum x) (l_derive x) (reference_logits x) (L x) (g_derive x)).
Qed.

Lemma minimised_loss_conditions :
  (forall x i, In x data -> In i (seq 0 n) -> pull_min x 0 i = 0) /\
  (forall x i, In x data -> In i (seq 0 n) -> is_derive (fun e => pull_min x e i) 0 (pull_min' x i)) /\
  (forall x, In x data -> 0 <= rsum (seq 0 n) (fun i => pull_min' x i * v x i)) /\
  (forall x, In x data -> rsum (seq 0 n) (fun i => pull_min' x i * v x i) = 0 ->
     forall e, rsum (seq 0 n) (fun i => pull_min x e i * v x i) = 0).
Proof.
  assert (H0 : forall x, teacher_vector x 0 = reference_logits x).
  { intros x. unfold teacher_vector, reference_logits, teacher_logits. rewrite line_at_0. reflexivity. }
  split; [|split; [|split]].
  - intros x i _ _. unfold pull_min. rewrite H0.
    rewrite (pull_vanishes_on_diagonal (l x) (g x) (l_minimum x) (l_derive x)). ring.
  - intros x i Hx _. unfold pull_min, pull_min'.
    rewrite <- (mixed_is_minus_hessian (l x) (g x) (l_minimum x) (l_derive x) (reference_logits x) (L x) (g_derive x)).
    apply (is_derive_opp (V := R_NormedModule)). evar_last.
    + apply (g_along (g x) (reference_logits x) (L x) (g_derive x) (fun _ => reference_logits x) (teacher_vector x)
        zero (tangent_vector x) (basis n i)); auto.
      * apply @is_derive_const.
      * apply (is_derive_of_entries scalar n (fun e => teacher_logits f theta0 D x e) (logit_tangent P J D x)).
        intros j Hj. apply (teacher_logits_derive P (seq 0 n) data f theta0 J HJ); auto. apply in_seq. lia.
    + rewrite <- (Rplus_0_l (mixed _ _ _)) at 2. f_equal. apply (linear_zero (L x (basis n i))).
      apply (proj1 (g_derive x (basis n i))).
  - intros x Hx. rewrite quadratic_form.
    apply (hessian_psd (l x) (g x) (l_minimum x) (l_derive x) (reference_logits x) (L x) (g_derive x)).
  - intros x Hx H e. rewrite quadratic_form in H.
    rewrite (rsum_ext (seq 0 n) _ (fun i => -1 *
      (g x (reference_logits x) (teacher_vector x e) (basis n i) * v x i))) by (intros; unfold pull_min; ring).
    rewrite rsum_scal. rewrite <- (linear_on_basis n (g x (reference_logits x) (teacher_vector x e))) by (apply (l_derive x)).
    fold (tangent_vector x). rewrite (null_space x Hx H). ring.
Qed.

Theorem lemma1_minimised_loss :
  exists e0, 0 < e0 /\ forall e, 0 < e < e0 -> 0 <= alignment P (seq 0 n) data w J D pull_min e.
Proof.
  destruct minimised_loss_conditions as [H0 [H1 [H2 H3]]].
  apply (lemma1 P (seq 0 n) data w w_nonneg J D pull_min pull_min'); auto.
Qed.

Theorem theorem1_minimised_loss (LT : V -> R) (alpha : R) :
  is_gradient P LT theta0 (opp D) -> 0 < alpha ->
  (forall e, alignment P (seq 0 n) data w J D pull_min e = 0) \/
  (exists e0, 0 < e0 /\ forall e, 0 < e < e0 ->
     0 < alignment P (seq 0 n) data w J D pull_min e /\
     LT (plus theta0 (scal alpha (student_update (seq 0 n) data w J pull_min e))) < LT theta0).
Proof.
  destruct minimised_loss_conditions as [H0 [H1 [H2 H3]]].
  apply (theorem1 P (seq 0 n) data w w_nonneg theta0 J D pull_min pull_min'); auto.
Qed.
End MinimisedLoss.

(** A loss with a non-degenerate minimum has no null space: the last condition holds by itself. *)
Lemma definite_hessian_null_space {n : nat} (g : space (vector n) -> space (vector n) -> space (vector n) -> R)
  (L : space (vector n) -> prod_NormedModule R_AbsRing (space (vector n)) (space (vector n)) -> R) :
  (forall z y, is_linear (V := R_NormedModule) (g z y)) ->
  (forall u, hessian L u u = 0 -> u = zero) ->
  forall u, hessian L u u = 0 -> forall z y, g z y u = 0.
Proof. intros Hl Hd u Hu z y. rewrite (Hd u Hu). apply (linear_zero (g z y) (Hl z y)). Qed.
