(** * Gradient descent on a distillation loss is a training step of MultiStep.v

    The step theta -> theta + alpha E_b[J(theta)^T pull] on a batch, with the teacher's logits at theta0 + e D as
    targets, is Frechet-differentiable in (theta, e) at (theta0, 0), although f is only asked to have a gradient that
    is CONTINUOUS at theta0: the pull vanishes there, so the change of J costs nothing. *)
Require Import Reals List Lra Psatz.
From Coquelicot Require Import Coquelicot.
From Sublim Require Import Sums Derivatives InnerProduct Softmax Alignment CrossEntropy SquaredError MultiStep.
Import ListNotations.
Open Scope R_scope.

(** ** Product rule at a zero: u differentiable and zero at p, F only continuous at p *)
Lemma filterdiff_scal_vanishing {W V : NormedModule R_AbsRing} (u : W -> R) (F : W -> V) (p : W) (du : W -> R) :
  filterdiff (V := R_NormedModule) u (locally p) du -> u p = 0 -> continuous F p ->
  filterdiff (fun t => scal (u t) (F t)) (locally p) (fun h => scal (du h) (F p)).
Proof.
  intros Hu H0 HF.
  assert (Hfirst : filterdiff (fun t => scal (u t) (F p)) (locally p) (fun h => scal (du h) (F p))).
  { apply (filterdiff_comp' (V := R_NormedModule) u (fun k : R => scal k (F p)) p du (fun k : R => scal k (F p)) Hu).
    apply filterdiff_linear. apply (is_linear_scal_l (K := R_AbsRing) (V := V) (F p)). }
  assert (Hsecond : filterdiff (fun t => scal (u t) (minus (F t) (F p))) (locally p) (fun _ => zero)).
  { split; [apply is_linear_zero|]. intros x Hx eps.
    assert (Hxp : p = x) by (apply (is_filter_lim_locally_unique (V := W)); exact Hx). subst x.
    destruct Hu as [Hlin Hdom]. destruct (linear_norm du Hlin) as [M [HM Hn]].
    specialize (Hdom p (fun P H => H) (mkposreal 1 Rlt_0_1)).
    assert (Heps : 0 < eps / (M + 1)) by (apply Rdiv_lt_0_compat; [apply cond_pos|lra]).
    assert (HFl : locally p (fun t => norm (minus (F t) (F p)) < eps / (M + 1))).
    { apply (HF (fun z => norm (minus z (F p)) < eps / (M + 1))).
      apply (locally_le_locally_norm (V := V)). exists (mkposreal _ Heps). intros y Hy. exact Hy. }
    generalize (filter_and _ _ Hdom HFl). apply filter_imp. intros t [H1 H2]. simpl in H1.
    rewrite H0 in H1. rewrite H0, (scal_zero_l (V := V)), !(minus_zero_r (G := V)).
    eapply Rle_trans; [apply (norm_scal (V := V))|].
    set (r := norm (minus t p)) in *.
    assert (Hut : abs (u t) <= (M + 1) * r).
    { replace (u t) with (plus (minus (minus (u t) 0) (du (minus t p))) (du (minus t p)))
        by (unfold minus, plus, opp; simpl; ring).
      eapply Rle_trans; [apply (abs_triangle (K := R_AbsRing))|].
      pose proof (Hn (minus t p)) as Hn'. fold r in Hn'.
      change (norm (du (minus t p))) with (abs (du (minus t p))) in Hn'.
      change (norm (minus (minus (u t) 0) (du (minus t p))))
        with (abs (minus (minus (u t) 0) (du (minus t p)))) in H1. lra. }
    assert (Hr : 0 <= r) by apply norm_ge_0. pose proof (norm_ge_0 (minus (F t) (F p))) as HF0.
    pose proof (abs_ge_0 (u t)).
    apply Rle_trans with ((M + 1) * r * (eps / (M + 1))); [|right; field; lra].
    apply Rmult_le_compat; auto; lra. }
  eapply filterdiff_ext.
  2:{ eapply filterdiff_ext_lin; [apply (filterdiff_plus_fct _ _ _ _ Hfirst Hsecond)|].
      intros h. simpl. apply plus_zero_r. }
  intros t. simpl. rewrite <- (scal_distr_l (V := V)). f_equal.
  unfold minus. rewrite (plus_comm (G := V) (F t)), (plus_assoc (G := V)), plus_opp_r. apply plus_zero_l.
Qed.

Section GradientStep.
Context {V : NormedModule R_AbsRing} {X I : Type}.
Variable P : pairing V.
Variable idx : list I.
Variable data : list X.                            (* the batch of this step *)
Variable w : X -> R.
Hypothesis w_nonneg : forall x, In x data -> 0 <= w x.
Variable f : V -> X -> I -> R.
Variables theta0 D : V.
Variable J : V -> X -> I -> V.
Hypothesis HJ : forall x i, In x data -> In i idx -> is_gradient P (fun th => f th x i) theta0 (J theta0 x i).
Hypothesis J_continuous : forall x i, In x data -> In i idx -> continuous (fun th => J th x i) theta0.

(** [force x theta e] is the pull on the logits of a student at theta; [M x] is the matrix M of the loss at theta0. *)
Variable force : X -> V -> R -> I -> R.
Variable M : X -> (I -> R) -> I -> R.
Hypothesis M_ext : forall x u v i, In i idx -> (forall j, In j idx -> u j = v j) -> M x u i = M x v i.
Hypothesis M_plus : forall x u v i, M x (fun j => u j + v j) i = M x u i + M x v i.
Hypothesis M_scal : forall x c u i, M x (fun j => c * u j) i = c * M x u i.
Hypothesis M_linear : forall (l : I -> V -> R) x i, In i idx ->
  (forall j, In j idx -> is_linear (V := R_NormedModule) (l j)) ->
  is_linear (V := R_NormedModule) (fun h => M x (fun j => l j h) i).
Hypothesis M_sym : forall x u v, In x data -> rsum idx (fun i => M x u i * v i) = rsum idx (fun i => M x v i * u i).
Hypothesis M_psd : forall x u, In x data -> 0 <= rsum idx (fun i => M x u i * u i).
Hypothesis force_0 : forall x i, In x data -> In i idx -> force x theta0 0 i = 0.
Hypothesis force_derive : forall x i, In x data -> In i idx ->
  filterdiff (V := R_NormedModule)
    (fun p : prod_NormedModule R_AbsRing V R_NormedModule => force x (fst p) (snd p) i) (locally (theta0, 0 : R))
    (fun h => M x (fun j => snd h * P (J theta0 x j) D - P (J theta0 x j) (fst h)) i).

Definition descent (alpha : R) (theta : V) (e : R) : V :=
  plus theta (scal alpha (vsum data (fun x => vsum idx (fun i => scal (w x * force x theta e i) (J theta x i))))).

(** The Gauss-Newton matrix of the batch, E_b[J^T M J]. *)
Definition gauss_newton (u : V) : V :=
  vsum data (fun x => vsum idx (fun i => scal (w x * M x (fun j => P (J theta0 x j) u) i) (J theta0 x i))).

Lemma gauss_newton_form u v :
  P (gauss_newton u) v =
  rsum data (fun x => w x * rsum idx (fun i => M x (fun j => P (J theta0 x j) u) i * P (J theta0 x i) v)).
Proof.
  rewrite (ip_sym P). unfold gauss_newton. rewrite (ip_vsum P). apply rsum_ext. intros x _.
  rewrite (ip_vsum P), <- rsum_scal. apply rsum_ext. intros i _. rewrite (ip_scal P), (ip_sym P v). ring.
Qed.

(** It is self-adjoint and positive semi-definite; a bound on its largest eigenvalue is the user's business. *)
Theorem gauss_newton_gram L : (forall u, P (gauss_newton u) u <= L * P u u) -> gram P gauss_newton L.
Proof.
  intros HL. split; [|split; [|exact HL]].
  - intros u v. rewrite (ip_sym P u), !gauss_newton_form. apply rsum_ext. intros x Hx. f_equal.
    apply (M_sym x (fun j => P (J theta0 x j) u) (fun j => P (J theta0 x j) v) Hx).
  - intros u. rewrite gauss_newton_form. apply rsum_nonneg. intros x Hx. apply Rmult_le_pos; [auto|].
    apply (M_psd x (fun j => P (J theta0 x j) u) Hx).
Qed.

Lemma is_linear_vsum {A : Type} {U W : NormedModule R_AbsRing} (s : list A) (g : A -> U -> W) :
  (forall i, In i s -> is_linear (g i)) -> is_linear (fun h => vsum s (fun i => g i h)).
Proof.
  induction s as [|b s IH]; simpl; intros H; [apply is_linear_zero|].
  apply (is_linear_comp (fun h => (g b h, vsum s (fun i => g i h))) (fun q : W * W => plus (fst q) (snd q))).
  - apply is_linear_prod; [apply H; auto|apply IH; auto].
  - apply is_linear_plus.
Qed.

Lemma gauss_newton_linear : is_linear gauss_newton.
Proof.
  apply (is_linear_vsum data (fun x u => vsum idx (fun i =>
    scal (w x * M x (fun j => P (J theta0 x j) u) i) (J theta0 x i)))).
  intros x Hx. apply (is_linear_vsum idx (fun i u => scal (w x * M x (fun j => P (J theta0 x j) u) i) (J theta0 x i))).
  intros i Hi.
  apply (is_linear_comp (V := R_NormedModule) (fun u => w x * M x (fun j => P (J theta0 x j) u) i)
    (fun k : R => scal k (J theta0 x i))); [|apply (is_linear_scal_l (K := R_AbsRing) (V := V))].
  apply (is_linear_comp (V := R_NormedModule) (W := R_NormedModule) (fun u => M x (fun j => P (J theta0 x j) u) i)
    (fun k : R => scal (w x) k)).
  - apply (M_linear (fun j u => P (J theta0 x j) u)); auto. intros j Hj. apply (proj1 (HJ x j Hx Hj)).
  - apply (is_linear_scal_r (K := R_AbsRing) (V := R_NormedModule)). apply Rmult_comm.
Qed.

Lemma vsum_plus {A : Type} {W : NormedModule R_AbsRing} (s : list A) (g h : A -> W) :
  vsum s (fun i => plus (g i) (h i)) = plus (vsum s g) (vsum s h).
Proof.
  induction s as [|b s IH]; simpl; [symmetry; apply plus_zero_l|]. rewrite IH, <- !(plus_assoc (G := W)).
  f_equal. rewrite !(plus_assoc (G := W)). f_equal. apply (plus_comm (G := W)).
Qed.

Lemma vsum_scal {A : Type} {W : NormedModule R_AbsRing} (s : list A) (c : R) (g : A -> W) :
  vsum s (fun i => scal c (g i)) = scal c (vsum s g).
Proof.
  induction s as [|b s IH]; simpl; [symmetry; apply (scal_zero_r (V := W))|].
  rewrite IH. symmetry. apply (scal_distr_l (V := W)).
Qed.

Lemma descent_fixes alpha : descent alpha theta0 0 = theta0.
Proof.
  unfold descent. rewrite (vsum_zero data).
  - rewrite (scal_zero_r (V := V)). apply plus_zero_r.
  - intros x Hx. apply vsum_zero. intros i Hi. rewrite force_0 by auto. rewrite Rmult_0_r. apply (scal_zero_l (V := V)).
Qed.

Lemma linearised_pull (h : V) (k : R) :
  vsum data (fun x => vsum idx (fun i =>
    scal (w x * M x (fun j => k * P (J theta0 x j) D - P (J theta0 x j) h) i) (J theta0 x i)))
  = plus (scal k (gauss_newton D)) (scal (-1) (gauss_newton h)).
Proof.
  unfold gauss_newton. rewrite <- !vsum_scal. etransitivity; [|apply vsum_plus]. apply vsum_ext. intros x Hx.
  rewrite <- !vsum_scal. etransitivity; [|apply vsum_plus]. apply vsum_ext. intros i Hi.
  rewrite !(scal_assoc (V := V)), <- (scal_distr_r (V := V)). f_equal.
  rewrite (M_ext x _ (fun j => k * P (J theta0 x j) D + -1 * P (J theta0 x j) h) i Hi) by (intros; ring).
  rewrite M_plus, !M_scal. unfold plus, mult; simpl. unfold mult; simpl. ring.
Qed.

(** ** Gradient descent on the batch is a training step in the sense of MultiStep.v *)
Theorem descent_derive alpha :
  filterdiff (fun p : prod_NormedModule R_AbsRing V R_NormedModule => descent alpha (fst p) (snd p))
    (locally (theta0, 0 : R))
    (fun h => plus (minus (fst h) (scal alpha (gauss_newton (fst h)))) (scal (snd h) (scal alpha (gauss_newton D)))).
Proof.
  unfold descent. eapply filterdiff_ext_lin.
  - apply filterdiff_plus_fct.
    + apply filterdiff_linear. apply is_linear_fst.
    + apply (filterdiff_scal_r_fct (K := R_AbsRing) (V := V)); [apply Rmult_comm|].
      apply (filterdiff_vsum data (fun x (p : prod_NormedModule R_AbsRing V R_NormedModule) =>
        vsum idx (fun i => scal (w x * force x (fst p) (snd p) i) (J (fst p) x i)))
        (fun x h => vsum idx (fun i => scal (w x * M x (fun j => snd h * P (J theta0 x j) D - P (J theta0 x j) (fst h)) i)
                                            (J theta0 x i)))).
      intros x Hx.
      apply (filterdiff_vsum idx (fun i (p : prod_NormedModule R_AbsRing V R_NormedModule) =>
        scal (w x * force x (fst p) (snd p) i) (J (fst p) x i))
        (fun i h => scal (w x * M x (fun j => snd h * P (J theta0 x j) D - P (J theta0 x j) (fst h)) i) (J theta0 x i))).
      intros i Hi.
      apply (filterdiff_scal_vanishing
        (fun p : prod_NormedModule R_AbsRing V R_NormedModule => w x * force x (fst p) (snd p) i)
        (fun p : prod_NormedModule R_AbsRing V R_NormedModule => J (fst p) x i) (theta0, 0 : R)
        (fun h => w x * M x (fun j => snd h * P (J theta0 x j) D - P (J theta0 x j) (fst h)) i)).
      * apply (filterdiff_scal_r_fct (K := R_AbsRing) (V := R_NormedModule)); [apply Rmult_comm|].
        apply force_derive; auto.
      * simpl. rewrite force_0 by auto. ring.
      * apply (continuous_comp (fun p : prod_NormedModule R_AbsRing V R_NormedModule => fst p) (fun th => J th x i)).
        -- apply continuous_fst.
        -- apply J_continuous; auto.
  - intros [h k]. simpl. rewrite linearised_pull, (scal_distr_l (V := V)).
    rewrite !(scal_assoc (V := V)). unfold minus. rewrite <- !(plus_assoc (G := V)). f_equal.
    rewrite (plus_comm (G := V)). f_equal.
    + symmetry. etransitivity; [symmetry; apply (scal_opp_one (V := V))|].
      rewrite (scal_assoc (V := V)). f_equal. unfold mult, opp, one; simpl. ring.
    + f_equal. unfold mult; simpl. apply Rmult_comm.
Qed.

Definition descent_step (alpha : R) : training_step theta0 D :=
  TrainingStep theta0 D (descent alpha) alpha gauss_newton gauss_newton_linear (descent_fixes alpha) (descent_derive alpha).
End GradientStep.

(** ** Schedules of batches
    A batch has its own inputs, weights and learning rate alpha with alpha * lambda_max <= 2. *)
Section Schedule.
Context {V : NormedModule R_AbsRing} {X I : Type}.
Variable P : pairing V.
Hypothesis P_pos : forall v, 0 <= P v v.
Variable idx : list I.
Variable f : V -> X -> I -> R.
Variables theta0 D : V.
Hypothesis P_continuous : is_linear (fun v => P D v).
Variable J : V -> X -> I -> V.
Hypothesis HJ : forall x i, In i idx -> is_gradient P (fun th => f th x i) theta0 (J theta0 x i).
Hypothesis J_continuous : forall x i, In i idx -> continuous (fun th => J th x i) theta0.
Variable force : X -> V -> R -> I -> R.
Variable M : X -> (I -> R) -> I -> R.
Hypothesis M_ext : forall x u v i, In i idx -> (forall j, In j idx -> u j = v j) -> M x u i = M x v i.
Hypothesis M_plus : forall x u v i, M x (fun j => u j + v j) i = M x u i + M x v i.
Hypothesis M_scal : forall x c u i, M x (fun j => c * u j) i = c * M x u i.
Hypothesis M_linear : forall (l : I -> V -> R) x i, In i idx ->
  (forall j, In j idx -> is_linear (V := R_NormedModule) (l j)) ->
  is_linear (V := R_NormedModule) (fun h => M x (fun j => l j h) i).
Hypothesis M_sym : forall x u v, rsum idx (fun i => M x u i * v i) = rsum idx (fun i => M x v i * u i).
Hypothesis M_psd : forall x u, 0 <= rsum idx (fun i => M x u i * u i).
Hypothesis force_0 : forall x i, In i idx -> force x theta0 0 i = 0.
Hypothesis force_derive : forall x i, In i idx ->
  filterdiff (V := R_NormedModule)
    (fun p : prod_NormedModule R_AbsRing V R_NormedModule => force x (fst p) (snd p) i) (locally (theta0, 0 : R))
    (fun h => M x (fun j => snd h * P (J theta0 x j) D - P (J theta0 x j) (fst h)) i).

Record batch := Batch {
  inputs : list X;
  weight : X -> R;
  weight_nonneg : forall x, 0 <= weight x;
  learning_rate : R;
  learning_rate_nonneg : 0 <= learning_rate;
  lambda_max : R;
  lambda_max_bounds : forall u, P (gauss_newton P idx inputs weight theta0 J M u) u <= lambda_max * P u u;
  learning_rate_small : learning_rate * lambda_max <= 2 }.

Definition step_of (b : batch) : training_step theta0 D :=
  descent_step P idx (inputs b) (weight b) f theta0 D J (fun x i _ Hi => HJ x i Hi) (fun x i _ Hi => J_continuous x i Hi)
    force M M_ext M_plus M_scal M_linear (fun x i _ Hi => force_0 x i Hi) (fun x i _ Hi => force_derive x i Hi)
    (learning_rate b).

Lemma step_of_admissible b : admissible P (learning_rate b, gauss_newton P idx (inputs b) (weight b) theta0 J M).
Proof.
  split; [apply learning_rate_nonneg|]. exists (lambda_max b). split; [|apply learning_rate_small].
  apply gauss_newton_gram; auto using weight_nonneg, lambda_max_bounds.
Qed.

(** Parameters after training on the batches in order, targets from the teacher at theta0 + e D. *)
Fixpoint train (bs : list batch) (theta : V) (e : R) : V :=
  match bs with
  | [] => theta
  | b :: rest => train rest (descent idx (inputs b) (weight b) J force (learning_rate b) theta e) e
  end.

Fixpoint distance_left (bs : list batch) (v : V) : V :=
  match bs with
  | [] => v
  | b :: rest => distance_left rest (minus v (scal (learning_rate b) (gauss_newton P idx (inputs b) (weight b) theta0 J M v)))
  end.

Lemma train_is_trajectory bs : forall theta e, train bs theta e = trajectory theta0 D (map step_of bs) theta e.
Proof. induction bs as [|b rest IH]; intros theta e; simpl; auto. Qed.

Lemma distance_left_is_residual bs : forall v, distance_left bs v = residual (schedule theta0 D (map step_of bs)) v.
Proof. induction bs as [|b rest IH]; intros v; simpl; auto. Qed.

Lemma all_admissible bs : List.Forall (admissible P) (schedule theta0 D (map step_of bs)).
Proof. induction bs as [|b rest IH]; simpl; constructor; auto. apply step_of_admissible. Qed.

Theorem multi_step_descent bs (LT : V -> R) :
  let slope := P D (minus D (distance_left bs D)) in
  0 <= slope /\ P (distance_left bs D) (distance_left bs D) <= P D D /\
  is_derive (fun e => P D (minus (train bs theta0 e) theta0)) 0 slope /\
  (is_gradient P LT theta0 (opp D) -> is_derive (fun e => LT (train bs theta0 e)) 0 (- slope)) /\
  (0 < slope -> exists e0, 0 < e0 /\ forall e, 0 < e < e0 -> 0 < P D (minus (train bs theta0 e) theta0)) /\
  (0 < slope -> is_gradient P LT theta0 (opp D) ->
     exists e0, 0 < e0 /\ forall e, 0 < e < e0 -> LT (train bs theta0 e) < LT theta0).
Proof.
  intros slope.
  destruct (multi_step_alignment P P_pos theta0 D (map step_of bs) P_continuous (all_admissible bs)) as [H1 [H2 H3]].
  pose proof (fun HL => multi_step_lowers_teacher_loss P P_pos theta0 D (map step_of bs) LT HL (all_admissible bs)) as H4.
  cbv zeta in H4. rewrite <- (distance_left_is_residual bs) in *.
  split; [exact H2|].
  split; [rewrite distance_left_is_residual; apply residual_non_increasing; [exact P_pos|apply all_admissible]|].
  split; [|split; [|split]].
  - apply (is_derive_ext (fun e => P D (minus (trajectory theta0 D (map step_of bs) theta0 e) theta0))); [|exact H1].
    intros e. rewrite train_is_trajectory. reflexivity.
  - intros HL. destruct (H4 HL) as [H5 _].
    apply (is_derive_ext (fun e => LT (trajectory theta0 D (map step_of bs) theta0 e))); [|exact H5].
    intros e. rewrite train_is_trajectory. reflexivity.
  - intros Hs. destruct (H3 Hs) as [e0 [He0 H]]. exists e0. split; auto. intros e He. rewrite train_is_trajectory. auto.
  - intros Hs HL. destruct (H4 HL) as [_ [_ H6]]. destruct (H6 Hs) as [e0 [He0 H]]. exists e0. split; auto.
    intros e He. rewrite train_is_trajectory. auto.
Qed.
End Schedule.

(** ** Cross-entropy and squared error *)
Section Instances.
Context {V : NormedModule R_AbsRing} {X I : Type}.
Variable P : pairing V.
Hypothesis P_pos : forall v, 0 <= P v v.
Variable idx : list I.
Variable f : V -> X -> I -> R.
Variables theta0 D : V.
Hypothesis P_continuous : is_linear (fun v => P D v).
Variable J : V -> X -> I -> V.
Hypothesis HJ : forall th x i, In i idx -> is_gradient P (fun th => f th x i) th (J th x i).
Hypothesis J_continuous : forall x i, In i idx -> continuous (fun th => J th x i) theta0.

Lemma student_logits_derive x j : In j idx ->
  filterdiff (V := R_NormedModule) (fun p : prod_NormedModule R_AbsRing V R_NormedModule => f (fst p) x j)
    (locally (theta0, 0 : R)) (fun h => P (J theta0 x j) (fst h)).
Proof.
  intros Hj. apply (filterdiff_comp' (W := R_NormedModule)
    (fun p : prod_NormedModule R_AbsRing V R_NormedModule => fst p) (fun th => f th x j) (theta0, 0 : R)
    (fun h => fst h) (fun h => P (J theta0 x j) h)).
  - apply filterdiff_linear. apply is_linear_fst.
  - apply HJ. exact Hj.
Qed.

Lemma moving_teacher_derive x j : In j idx ->
  filterdiff (V := R_NormedModule) (fun p : prod_NormedModule R_AbsRing V R_NormedModule =>
    f (plus theta0 (scal (snd p) D)) x j) (locally (theta0, 0 : R)) (fun h => snd h * P (J theta0 x j) D).
Proof.
  intros Hj.
  apply (filterdiff_comp' (V := R_NormedModule) (W := R_NormedModule)
    (fun p : prod_NormedModule R_AbsRing V R_NormedModule => snd p) (fun e : R => f (plus theta0 (scal e D)) x j)
    (theta0, 0 : R) (fun h => snd h) (fun e : R => e * P (J theta0 x j) D)).
  - apply filterdiff_linear. apply is_linear_snd.
  - apply (gradient_along P (fun e : R => plus theta0 (scal e D)) D (fun th => f th x j) (J theta0 x j) 0).
    + apply line_derive.
    + rewrite line_at_0. apply HJ. exact Hj.
Qed.

Section CE.
Variable a : X -> I -> R.
Hypothesis a_nonneg : forall x i, In i idx -> 0 <= a x i.
Hypothesis a_some : forall x, exists i, In i idx /\ 0 < a x i.

Definition force_ce (x : X) (theta : V) (e : R) (i : I) : R :=
  softmax idx (a x) (f (plus theta0 (scal e D)) x) i - softmax idx (a x) (f theta x) i.
Definition M_ce (x : X) (u : I -> R) (i : I) : R :=
  softmax idx (a x) (f theta0 x) i * (u i - mean idx (a x) (f theta0 x) u).

Lemma M_ce_ext x u v i : In i idx -> (forall j, In j idx -> u j = v j) -> M_ce x u i = M_ce x v i.
Proof.
  intros Hi H. unfold M_ce. rewrite (H i Hi). do 2 f_equal. unfold mean. apply rsum_ext. intros j Hj. rewrite (H j Hj).
  reflexivity.
Qed.
Lemma M_ce_plus x u v i : M_ce x (fun j => u j + v j) i = M_ce x u i + M_ce x v i.
Proof.
  unfold M_ce, mean. rewrite (rsum_ext idx (fun i0 => softmax idx (a x) (f theta0 x) i0 * (u i0 + v i0))
    (fun i0 => softmax idx (a x) (f theta0 x) i0 * u i0 + softmax idx (a x) (f theta0 x) i0 * v i0)) by (intros; ring).
  rewrite rsum_plus. ring.
Qed.
Lemma M_ce_scal x c u i : M_ce x (fun j => c * u j) i = c * M_ce x u i.
Proof.
  unfold M_ce, mean. rewrite (rsum_ext idx (fun i0 => softmax idx (a x) (f theta0 x) i0 * (c * u i0))
    (fun i0 => c * (softmax idx (a x) (f theta0 x) i0 * u i0))) by (intros; ring).
  rewrite rsum_scal. ring.
Qed.
Lemma M_ce_minus x u v i : M_ce x (fun j => u j - v j) i = M_ce x u i - M_ce x v i.
Proof.
  unfold M_ce, mean. rewrite (rsum_ext idx (fun i0 => softmax idx (a x) (f theta0 x) i0 * (u i0 - v i0))
    (fun i0 => softmax idx (a x) (f theta0 x) i0 * u i0 - softmax idx (a x) (f theta0 x) i0 * v i0)) by (intros; ring).
  rewrite rsum_minus. ring.
Qed.
Lemma M_ce_form x u v : rsum idx (fun i => M_ce x u i * v i)
  = mean idx (a x) (f theta0 x) (fun i => u i * v i)
    - mean idx (a x) (f theta0 x) u * mean idx (a x) (f theta0 x) v.
Proof.
  unfold M_ce. unfold mean at 2. set (m := mean idx (a x) (f theta0 x) u).
  rewrite (rsum_ext idx (fun i => softmax idx (a x) (f theta0 x) i * (u i - m) * v i)
    (fun i => softmax idx (a x) (f theta0 x) i * (u i * v i) - m * (softmax idx (a x) (f theta0 x) i * v i))) by (intros; ring).
  rewrite rsum_minus, rsum_scal. reflexivity.
Qed.
Lemma M_ce_sym x u v : rsum idx (fun i => M_ce x u i * v i) = rsum idx (fun i => M_ce x v i * u i).
Proof. rewrite !M_ce_form, Rmult_comm. f_equal. apply rsum_ext. intros; ring. Qed.
Lemma M_ce_psd x u : 0 <= rsum idx (fun i => M_ce x u i * u i).
Proof. unfold M_ce. rewrite quadratic_form_is_variance by auto. apply variance_nonneg; auto. Qed.
Lemma M_ce_linear (l : I -> V -> R) x i : In i idx -> (forall j, In j idx -> is_linear (V := R_NormedModule) (l j)) ->
  is_linear (V := R_NormedModule) (fun h => M_ce x (fun j => l j h) i).
Proof.
  intros Hi Hl. unfold M_ce.
  assert (Hs : forall c (g : V -> R), is_linear (V := R_NormedModule) g -> is_linear (V := R_NormedModule) (fun h => c * g h)).
  { intros c g Hg. apply (is_linear_comp (V := R_NormedModule) (W := R_NormedModule) g (fun k : R => scal c k)); auto.
    apply (is_linear_scal_r (K := R_AbsRing) (V := R_NormedModule)). apply Rmult_comm. }
  apply Hs. unfold Rminus.
  apply (is_linear_comp (V := prod_NormedModule R_AbsRing R_NormedModule R_NormedModule) (W := R_NormedModule)
    (fun h => (l i h, - mean idx (a x) (f theta0 x) (fun j => l j h))) (fun q : R * R => plus (fst q) (snd q))).
  - apply is_linear_prod; [apply Hl; auto|].
    apply (is_linear_comp (V := R_NormedModule) (W := R_NormedModule)
      (fun h => mean idx (a x) (f theta0 x) (fun j => l j h)) (fun k : R => opp k)).
    + unfold mean. apply (is_linear_vsum (W := R_NormedModule) idx (fun j h => softmax idx (a x) (f theta0 x) j * l j h)).
      intros j Hj. apply Hs. apply Hl. exact Hj.
    + apply (is_linear_opp (V := R_NormedModule)).
  - apply (is_linear_plus (V := R_NormedModule)).
Qed.
Lemma force_ce_0 x i : In i idx -> force_ce x theta0 0 i = 0.
Proof. intros _. unfold force_ce. rewrite line_at_0. ring. Qed.
Lemma force_ce_derive x i : In i idx ->
  filterdiff (V := R_NormedModule)
    (fun p : prod_NormedModule R_AbsRing V R_NormedModule => force_ce x (fst p) (snd p) i) (locally (theta0, 0 : R))
    (fun h => M_ce x (fun j => snd h * P (J theta0 x j) D - P (J theta0 x j) (fst h)) i).
Proof.
  intros Hi. unfold force_ce. eapply filterdiff_ext_lin.
  - apply (filterdiff_minus_fct (V := R_NormedModule)).
    + apply (filterdiff_softmax idx (a x) (a_nonneg x) (a_some x)
        (fun p : prod_NormedModule R_AbsRing V R_NormedModule => f (plus theta0 (scal (snd p) D)) x)
        (fun j h => snd h * P (J theta0 x j) D)); auto.
      intros j Hj. apply moving_teacher_derive. exact Hj.
    + apply (filterdiff_softmax idx (a x) (a_nonneg x) (a_some x)
        (fun p : prod_NormedModule R_AbsRing V R_NormedModule => f (fst p) x)
        (fun j h => P (J theta0 x j) (fst h))); auto.
      intros j Hj. apply student_logits_derive. exact Hj.
  - intros h. simpl. rewrite line_at_0. symmetry.
    apply (M_ce_minus x (fun j => snd h * P (J theta0 x j) D) (fun j => P (J theta0 x j) (fst h)) i).
Qed.

(** The force is the true one: each step of [train] is theta - alpha grad of the batch's expected KL divergence from the
    teacher, at the student's current parameters. *)
Theorem descent_ce_is_gradient_descent (data : list X) (w : X -> R) theta e :
  is_gradient P (fun th => rsum data (fun x => w x * kl idx (a x) (f th x) (f (plus theta0 (scal e D)) x))) theta
    (opp (vsum data (fun x => vsum idx (fun i => scal (w x * force_ce x theta e i) (J theta x i))))).
Proof.
  pose proof (kl_update_is_negative_gradient P idx data w a a_nonneg a_some f theta (J theta)
    (fun x i _ Hi => HJ theta x i Hi) (minus (plus theta0 (scal e D)) theta) 1) as H.
  assert (Hy : forall x, teacher_logits f theta (minus (plus theta0 (scal e D)) theta) x 1 = f (plus theta0 (scal e D)) x).
  { intros x. unfold teacher_logits. rewrite (scal_one (V := V)).
    assert (Hp : plus theta (minus (plus theta0 (scal e D)) theta) = plus theta0 (scal e D)).
    { unfold minus. rewrite (plus_comm (G := V) theta), <- (plus_assoc (G := V)), plus_opp_l. apply plus_zero_r. }
    rewrite Hp. reflexivity. }
  unfold is_gradient in *. eapply filterdiff_ext_lin; [eapply filterdiff_ext; [|exact H]|].
  - intros th. apply rsum_ext. intros x _. rewrite Hy. reflexivity.
  - assert (Hu : student_update idx data w (J theta) (pull_ce idx a f theta (minus (plus theta0 (scal e D)) theta)) 1
      = vsum data (fun x => vsum idx (fun i => scal (w x * force_ce x theta e i) (J theta x i)))).
    { unfold student_update. apply vsum_ext. intros x _. apply vsum_ext. intros i _.
      unfold pull_ce, force_ce. rewrite Hy. reflexivity. }
    intros h. rewrite Hu. reflexivity.
Qed.

(** ** Theorem 1 for any number of steps of minibatch gradient descent on the KL divergence *)
Theorem multi_step_cross_entropy (bs : list (batch P idx theta0 J M_ce)) (LT : V -> R) :
  let slope := P D (minus D (distance_left P idx theta0 J M_ce bs D)) in
  let final e := train P idx theta0 J force_ce M_ce bs theta0 e in
  0 <= slope /\
  P (distance_left P idx theta0 J M_ce bs D) (distance_left P idx theta0 J M_ce bs D) <= P D D /\
  is_derive (fun e => P D (minus (final e) theta0)) 0 slope /\
  (is_gradient P LT theta0 (opp D) -> is_derive (fun e => LT (final e)) 0 (- slope)) /\
  (0 < slope -> exists e0, 0 < e0 /\ forall e, 0 < e < e0 -> 0 < P D (minus (final e) theta0)) /\
  (0 < slope -> is_gradient P LT theta0 (opp D) ->
     exists e0, 0 < e0 /\ forall e, 0 < e < e0 -> LT (final e) < LT theta0).
Proof.
  apply (multi_step_descent P P_pos idx f theta0 D P_continuous J (HJ theta0) J_continuous force_ce M_ce
    M_ce_ext M_ce_plus M_ce_scal M_ce_linear M_ce_sym M_ce_psd force_ce_0 force_ce_derive bs LT).
Qed.
End CE.

Section SE.
Variable q : X -> I -> R.
Hypothesis q_nonneg : forall x i, In i idx -> 0 <= q x i.

Definition force_se (x : X) (theta : V) (e : R) (i : I) : R :=
  2 * q x i * (f (plus theta0 (scal e D)) x i - f theta x i).
Definition M_se (x : X) (u : I -> R) (i : I) : R := 2 * q x i * u i.

Lemma M_se_ext x u v i : In i idx -> (forall j, In j idx -> u j = v j) -> M_se x u i = M_se x v i.
Proof. intros Hi H. unfold M_se. rewrite (H i Hi). reflexivity. Qed.
Lemma M_se_plus x u v i : M_se x (fun j => u j + v j) i = M_se x u i + M_se x v i.
Proof. unfold M_se. ring. Qed.
Lemma M_se_scal x c u i : M_se x (fun j => c * u j) i = c * M_se x u i.
Proof. unfold M_se. ring. Qed.
Lemma M_se_sym x u v : rsum idx (fun i => M_se x u i * v i) = rsum idx (fun i => M_se x v i * u i).
Proof. apply rsum_ext. intros i _. unfold M_se. ring. Qed.
Lemma M_se_psd x u : 0 <= rsum idx (fun i => M_se x u i * u i).
Proof.
  apply rsum_nonneg. intros i Hi. unfold M_se. pose proof (q_nonneg x i Hi). pose proof (pow2_ge_0 (u i)). nra.
Qed.
Lemma M_se_linear (l : I -> V -> R) x i : In i idx -> (forall j, In j idx -> is_linear (V := R_NormedModule) (l j)) ->
  is_linear (V := R_NormedModule) (fun h => M_se x (fun j => l j h) i).
Proof.
  intros Hi Hl. unfold M_se.
  apply (is_linear_comp (V := R_NormedModule) (W := R_NormedModule) (l i) (fun k : R => scal (2 * q x i) k)); auto.
  apply (is_linear_scal_r (K := R_AbsRing) (V := R_NormedModule)). apply Rmult_comm.
Qed.
Lemma force_se_0 x i : In i idx -> force_se x theta0 0 i = 0.
Proof. intros _. unfold force_se. rewrite line_at_0. ring. Qed.
Lemma force_se_derive x i : In i idx ->
  filterdiff (V := R_NormedModule)
    (fun p : prod_NormedModule R_AbsRing V R_NormedModule => force_se x (fst p) (snd p) i) (locally (theta0, 0 : R))
    (fun h => M_se x (fun j => snd h * P (J theta0 x j) D - P (J theta0 x j) (fst h)) i).
Proof.
  intros Hi. unfold force_se, M_se.
  apply (filterdiff_scal_r_fct (K := R_AbsRing) (V := R_NormedModule)); [apply Rmult_comm|].
  apply (filterdiff_minus_fct (V := R_NormedModule)); [apply moving_teacher_derive|apply student_logits_derive]; exact Hi.
Qed.

Theorem descent_se_is_gradient_descent (data : list X) (w : X -> R) theta e :
  is_gradient P (fun th => rsum data (fun x => w x * squared_error idx q x (f th x) (f (plus theta0 (scal e D)) x))) theta
    (opp (vsum data (fun x => vsum idx (fun i => scal (w x * force_se x theta e i) (J theta x i))))).
Proof.
  pose proof (squared_error_update_is_negative_gradient P idx data w q f theta (J theta)
    (fun x i _ Hi => HJ theta x i Hi) (minus (plus theta0 (scal e D)) theta) 1) as H.
  assert (Hy : forall x, teacher_logits f theta (minus (plus theta0 (scal e D)) theta) x 1 = f (plus theta0 (scal e D)) x).
  { intros x. unfold teacher_logits. rewrite (scal_one (V := V)).
    assert (Hp : plus theta (minus (plus theta0 (scal e D)) theta) = plus theta0 (scal e D)).
    { unfold minus. rewrite (plus_comm (G := V) theta), <- (plus_assoc (G := V)), plus_opp_l. apply plus_zero_r. }
    rewrite Hp. reflexivity. }
  unfold is_gradient in *. eapply filterdiff_ext_lin; [eapply filterdiff_ext; [|exact H]|].
  - intros th. apply rsum_ext. intros x _. rewrite Hy. reflexivity.
  - assert (Hu : student_update idx data w (J theta) (pull_se q f theta (minus (plus theta0 (scal e D)) theta)) 1
      = vsum data (fun x => vsum idx (fun i => scal (w x * force_se x theta e i) (J theta x i)))).
    { unfold student_update. apply vsum_ext. intros x _. apply vsum_ext. intros i _.
      unfold pull_se, force_se. rewrite Hy. reflexivity. }
    intros h. rewrite Hu. reflexivity.
Qed.

(** ** The same for weighted squared error *)
Theorem multi_step_squared_error (bs : list (batch P idx theta0 J M_se)) (LT : V -> R) :
  let slope := P D (minus D (distance_left P idx theta0 J M_se bs D)) in
  let final e := train P idx theta0 J force_se M_se bs theta0 e in
  0 <= slope /\
  P (distance_left P idx theta0 J M_se bs D) (distance_left P idx theta0 J M_se bs D) <= P D D /\
  is_derive (fun e => P D (minus (final e) theta0)) 0 slope /\
  (is_gradient P LT theta0 (opp D) -> is_derive (fun e => LT (final e)) 0 (- slope)) /\
  (0 < slope -> exists e0, 0 < e0 /\ forall e, 0 < e < e0 -> 0 < P D (minus (final e) theta0)) /\
  (0 < slope -> is_gradient P LT theta0 (opp D) ->
     exists e0, 0 < e0 /\ forall e, 0 < e < e0 -> LT (final e) < LT theta0).
Proof.
  apply (multi_step_descent P P_pos idx f theta0 D P_continuous J (HJ theta0) J_continuous force_se M_se
    M_se_ext M_se_plus M_se_scal M_se_linear M_se_sym M_se_psd force_se_0 force_se_derive bs LT).
Qed.
End SE.
End Instances.
