(** * Actual networks

    Multi-layer perceptrons of any depth and width, on the concrete parameter spaces of Vectors.v: nobody can say that
    the hypotheses of Lemma 1 are empty. A smooth activation (tanh) satisfies them at every theta0; ReLU satisfies them
    wherever no pre-activation is exactly 0 on the data ([relu_kink] in Counterexamples.v: at a kink they fail). *)
Require Import Reals List Lra Psatz Lia.
From Coquelicot Require Import Coquelicot.
From Sublim Require Import Sums Derivatives InnerProduct Softmax Alignment CrossEntropy SquaredError Vectors.
Import ListNotations.
Open Scope R_scope.

(** ** Multi-layer perceptrons
    [mlp_tree d hidden k] is the shape of the parameters: (weights, biases) for every layer, weights out x in. *)
Definition layer_tree (m d : nat) : tree := both (matrix_of m d) (vector m).

Fixpoint mlp_tree (d : nat) (hidden : list nat) (k : nat) : tree :=
  match hidden with
  | [] => layer_tree k d
  | m :: rest => both (layer_tree m d) (mlp_tree m rest k)
  end.

Definition affine (m d : nat) (layer : space (layer_tree m d)) (u : nat -> R) (i : nat) : R :=
  rsum (seq 0 d) (fun j => entry (t := scalar) d (entry (t := vector d) m (fst layer) i) j * u j)
  + entry (t := scalar) m (snd layer) i.

Fixpoint mlp (act : R -> R) (d : nat) (hidden : list nat) (k : nat) :
  space (mlp_tree d hidden k) -> (nat -> R) -> nat -> R :=
  match hidden return space (mlp_tree d hidden k) -> (nat -> R) -> nat -> R with
  | [] => fun theta x => affine k d theta x
  | m :: rest => fun theta x => mlp act m rest k (snd theta) (fun i => act (affine m d (fst theta) x i))
  end.

(** The activation is differentiable at every pre-activation that occurs on input x. *)
Fixpoint smooth_on (act : R -> R) (d : nat) (hidden : list nat) (k : nat) :
  space (mlp_tree d hidden k) -> (nat -> R) -> Prop :=
  match hidden return space (mlp_tree d hidden k) -> (nat -> R) -> Prop with
  | [] => fun _ _ => True
  | m :: rest => fun theta x =>
      (forall i, (i < m)%nat -> ex_derive act (affine m d (fst theta) x i)) /\
      smooth_on act m rest k (snd theta) (fun i => act (affine m d (fst theta) x i))
  end.

Lemma smooth_activation act : (forall x, ex_derive act x) ->
  forall d hidden k theta x, smooth_on act d hidden k theta x.
Proof. intros H d hidden. revert d. induction hidden as [|m rest IH]; intros d k theta x; simpl; auto. Qed.

Lemma ex_filterdiff_rsum {A : Type} {U : NormedModule R_AbsRing} (l : list A) (F : A -> U -> R) (x : U) :
  (forall i, In i l -> ex_filterdiff (V := R_NormedModule) (F i) (locally x)) ->
  ex_filterdiff (V := R_NormedModule) (fun t => rsum l (fun i => F i t)) (locally x).
Proof.
  induction l as [|a l IH]; simpl; intros H.
  - apply (ex_filterdiff_const (V := R_NormedModule)).
  - apply (ex_filterdiff_plus_fct (V := R_NormedModule)); [apply H; auto|apply IH; auto].
Qed.

Lemma affine_differentiable {U : NormedModule R_AbsRing} m d (p : U -> space (layer_tree m d)) (u : U -> nat -> R) (x : U) :
  is_linear p -> (forall j, (j < d)%nat -> ex_filterdiff (V := R_NormedModule) (fun th => u th j) (locally x)) ->
  forall i, ex_filterdiff (V := R_NormedModule) (fun th => affine m d (p th) (u th) i) (locally x).
Proof.
  intros Hp Hu i. unfold affine. apply (ex_filterdiff_plus_fct (V := R_NormedModule)).
  - apply (ex_filterdiff_rsum (seq 0 d) (fun j th =>
      entry (t := scalar) d (entry (t := vector d) m (fst (p th)) i) j * u th j)).
    intros j Hj. apply in_seq in Hj.
    apply (ex_filterdiff_mult_fct (K := R_AbsRing)
      (fun th => entry (t := scalar) d (entry (t := vector d) m (fst (p th)) i) j) (fun th => u th j));
      [apply Rmult_comm| |apply Hu; lia].
    apply (ex_filterdiff_linear (V := R_NormedModule)).
    apply (is_linear_comp (fun th => entry (t := vector d) m (fst (p th)) i) (fun r => entry (t := scalar) d r j)).
    + apply (is_linear_comp (fun th => fst (p th)) (fun M => entry (t := vector d) m M i)).
      * apply (is_linear_comp p (fun q : space (matrix_of m d) * space (vector m) => fst q)); auto. apply is_linear_fst.
      * apply (is_linear_entry (vector d)).
    + apply (is_linear_entry scalar).
  - apply (ex_filterdiff_linear (V := R_NormedModule)).
    apply (is_linear_comp (fun th => snd (p th)) (fun r => entry (t := scalar) m r i)).
    + apply (is_linear_comp p (fun q : space (matrix_of m d) * space (vector m) => snd q)); auto. apply is_linear_snd.
    + apply (is_linear_entry scalar).
Qed.

Lemma mlp_differentiable_along act k : forall hidden d (U : NormedModule R_AbsRing)
  (p : U -> space (mlp_tree d hidden k)) (u : U -> nat -> R) (x : U),
  is_linear p -> (forall j, (j < d)%nat -> ex_filterdiff (V := R_NormedModule) (fun th => u th j) (locally x)) ->
  smooth_on act d hidden k (p x) (u x) ->
  forall i, ex_filterdiff (V := R_NormedModule) (fun th => mlp act d hidden k (p th) (u th) i) (locally x).
Proof.
  induction hidden as [|m rest IH]; intros d U p u x Hp Hu Hs i; simpl.
  - apply affine_differentiable; auto.
  - simpl in Hs. destruct Hs as [Hact Hrest].
    assert (Hp1 : is_linear (fun th => fst (p th))).
    { apply (is_linear_comp p (fun q : space (layer_tree m d) * space (mlp_tree m rest k) => fst q)); auto.
      apply is_linear_fst. }
    assert (Hp2 : is_linear (fun th => snd (p th))).
    { apply (is_linear_comp p (fun q : space (layer_tree m d) * space (mlp_tree m rest k) => snd q)); auto.
      apply is_linear_snd. }
    apply (IH m U (fun th => snd (p th)) (fun th j => act (affine m d (fst (p th)) (u th) j)) x Hp2); auto.
    intros j Hj. destruct (Hact j Hj) as [da Hda].
    destruct (affine_differentiable m d (fun th => fst (p th)) u x Hp1 Hu j) as [dl Hdl].
    exists (fun h => scal (dl h) da).
    apply (filterdiff_comp' (W := R_NormedModule) (fun th => affine m d (fst (p th)) (u th) j) act x dl
      (fun y => scal y da)); auto.
Qed.

(** ** A perceptron is Frechet-differentiable in its parameters wherever its activation is *)
Theorem mlp_differentiable act d hidden k (theta0 : space (mlp_tree d hidden k)) (x : nat -> R) :
  smooth_on act d hidden k theta0 x ->
  forall i, ex_filterdiff (V := R_NormedModule) (fun th => mlp act d hidden k th x i) (locally theta0).
Proof.
  intros Hs i. apply (mlp_differentiable_along act k hidden d _ (fun th => th) (fun _ => x)); auto.
  - apply is_linear_id.
  - intros j _. apply (ex_filterdiff_const (V := R_NormedModule)).
Qed.

(** ** Lemma 1 and Theorem 1 for perceptrons
    [distilled] lists the logits the student sees (auxiliary ones, class ones or all), [data] its inputs (images of
    noise, anything), [D] is any displacement of the teacher. The student's update is [-grad] of its expected loss at
    theta0; that this is the true gradient is part of the statement. *)
Section Perceptron.
Variable act : R -> R.
Variables d k : nat.
Variable hidden : list nat.
Let T := mlp_tree d hidden k.
Let net := mlp act d hidden k.
Variable distilled : list nat.
Variable data : list (nat -> R).
Variable w : (nat -> R) -> R.
Hypothesis w_nonneg : forall x, In x data -> 0 <= w x.
Variables theta0 D : space T.
Hypothesis smooth : forall x, In x data -> smooth_on act d hidden k theta0 x.

Let J (x : nat -> R) (i : nat) : space T := grad T (fun th => net th x i) theta0.

Lemma network_gradients x i : In x data -> In i distilled -> is_gradient (dot T) (fun th => net th x i) theta0 (J x i).
Proof. intros Hx _. apply grad_correct. apply mlp_differentiable. auto. Qed.

Definition expected_kl (e : R) (theta : space T) : R :=
  rsum data (fun x => w x * kl distilled (fun _ => 1) (net theta x) (net (plus theta0 (scal e D)) x)).
Definition expected_squared_error (e : R) (theta : space T) : R :=
  rsum data (fun x => w x * rsum distilled (fun i => (net theta x i - net (plus theta0 (scal e D)) x i) ^ 2)).

Theorem mlp_cross_entropy : distilled <> [] ->
  let update e := opp (grad T (expected_kl e) theta0) in
  (forall e, is_gradient (dot T) (expected_kl e) theta0 (opp (update e))) /\
  (exists e0, 0 < e0 /\ forall e, 0 < e < e0 -> 0 <= dot T D (update e)) /\
  (forall (LT : space T -> R) (alpha : R), is_gradient (dot T) LT theta0 (opp D) -> 0 < alpha ->
     (forall e, dot T D (update e) = 0) \/
     (exists e0, 0 < e0 /\ forall e, 0 < e < e0 ->
        0 < dot T D (update e) /\ LT (plus theta0 (scal alpha (update e))) < LT theta0)).
Proof.
  intros Hne update.
  assert (Ha : forall (x : nat -> R) (i : nat), In i distilled -> 0 <= 1) by (intros; lra).
  assert (Hs : forall x : nat -> R, exists i, In i distilled /\ 0 < 1).
  { intros _. destruct distilled as [|i rest]; [contradiction|]. exists i. split; [left; reflexivity|lra]. }
  pose proof (kl_update_is_negative_gradient (dot T) distilled data w (fun _ _ => 1) Ha Hs net theta0 J
    network_gradients D) as Hg.
  assert (Hu : forall e, student_update distilled data w J (pull_ce distilled (fun _ _ => 1) net theta0 D) e = update e).
  { intros e. unfold update. rewrite <- (gradient_is_grad T (expected_kl e) theta0 _ (Hg e)).
    symmetry. apply (opp_opp (G := space T)). }
  split; [|split].
  - intros e. rewrite <- Hu. apply Hg.
  - destruct (lemma1_cross_entropy (dot T) distilled data w w_nonneg (fun _ _ => 1) Ha Hs net theta0 J
      network_gradients D) as [e0 [He0 H]].
    exists e0. split; auto. intros e He. rewrite <- Hu. apply H. exact He.
  - intros LT alpha HLT Hal.
    destruct (theorem1_cross_entropy (dot T) distilled data w w_nonneg (fun _ _ => 1) Ha Hs net theta0 J
      network_gradients D LT alpha HLT Hal) as [H|[e0 [He0 H]]].
    + left. intros e. rewrite <- Hu. apply H.
    + right. exists e0. split; auto. intros e He. rewrite <- Hu. apply H. exact He.
Qed.

Theorem mlp_squared_error :
  let update e := opp (grad T (expected_squared_error e) theta0) in
  (forall e, is_gradient (dot T) (expected_squared_error e) theta0 (opp (update e))) /\
  (exists e0, 0 < e0 /\ forall e, 0 < e < e0 -> 0 <= dot T D (update e)) /\
  (forall (LT : space T -> R) (alpha : R), is_gradient (dot T) LT theta0 (opp D) -> 0 < alpha ->
     (forall e, dot T D (update e) = 0) \/
     (exists e0, 0 < e0 /\ forall e, 0 < e < e0 ->
        0 < dot T D (update e) /\ LT (plus theta0 (scal alpha (update e))) < LT theta0)).
Proof.
  intros update.
  assert (Hq : forall (x : nat -> R) (i : nat), In i distilled -> 0 <= 1) by (intros; lra).
  assert (Hg : forall e, is_gradient (dot T) (expected_squared_error e) theta0
    (opp (student_update distilled data w J (pull_se (fun _ _ => 1) net theta0 D) e))).
  { intros e. unfold is_gradient. eapply filterdiff_ext.
    2:{ apply (squared_error_update_is_negative_gradient (dot T) distilled data w (fun _ _ => 1) net theta0 J
          network_gradients D e). }
    intros th. unfold expected_squared_error, squared_error. apply rsum_ext. intros x _. f_equal.
    apply rsum_ext. intros i _. apply Rmult_1_l. }
  assert (Hu : forall e, student_update distilled data w J (pull_se (fun _ _ => 1) net theta0 D) e = update e).
  { intros e. unfold update. rewrite <- (gradient_is_grad T (expected_squared_error e) theta0 _ (Hg e)).
    symmetry. apply (opp_opp (G := space T)). }
  split; [|split].
  - intros e. rewrite <- Hu. apply Hg.
  - destruct (lemma1_squared_error (dot T) distilled data w w_nonneg (fun _ _ => 1) Hq net theta0 J
      network_gradients D) as [e0 [He0 H]].
    exists e0. split; auto. intros e He. rewrite <- Hu. apply H. exact He.
  - intros LT alpha HLT Hal.
    destruct (theorem1_squared_error (dot T) distilled data w w_nonneg (fun _ _ => 1) Hq net theta0 J
      network_gradients D LT alpha HLT Hal) as [H|[e0 [He0 H]]].
    + left. intros e. rewrite <- Hu. apply H.
    + right. exists e0. split; auto. intros e He. rewrite <- Hu. apply H. exact He.
Qed.
End Perceptron.

(** ** tanh is smooth *)
Lemma tanh_differentiable : forall x, ex_derive tanh x.
Proof.
  intros x. unfold tanh, sinh, cosh. auto_derive.
  pose proof (exp_pos x). pose proof (exp_pos (- x)). lra.
Qed.

(** ** ReLU is smooth off its kink *)
Definition relu (x : R) : R := Rmax 0 x.

Lemma relu_differentiable x : x <> 0 -> ex_derive relu x.
Proof.
  intros Hx. destruct (Rtotal_order x 0) as [H|[H|H]]; [|contradiction|].
  - exists 0. apply (is_derive_ext_loc (fun _ => 0)).
    + assert (Hd : 0 < - x) by lra. exists (mkposreal _ Hd). intros y Hy.
      unfold ball in Hy; simpl in Hy. unfold AbsRing_ball, abs, minus, plus, opp in Hy; simpl in Hy.
      apply Rabs_def2 in Hy. unfold relu. rewrite Rmax_left; lra.
    + apply @is_derive_const.
  - exists 1. apply (is_derive_ext_loc (fun y => y)).
    + assert (Hd : 0 < x) by lra. exists (mkposreal _ Hd). intros y Hy.
      unfold ball in Hy; simpl in Hy. unfold AbsRing_ball, abs, minus, plus, opp in Hy; simpl in Hy.
      apply Rabs_def2 in Hy. unfold relu. rewrite Rmax_right; lra.
    + apply @is_derive_id.
Qed.

(** ** The two-layer tanh network, spelled out
    W1 is m x d, W2 is k x m; logits W2 tanh(W1 x + b1) + b2; uniform average over the data; KL divergence on any
    non-empty list of distilled logits; any displacement D of the teacher, in any of the four arrays. The first
    student step has a non-negative inner product with D for all small e > 0. *)
Definition two_layer (d m k : nat) (theta : space (mlp_tree d [m] k)) (x : nat -> R) (i : nat) : R :=
  let '((W1, b1), (W2, b2)) := theta in
  rsum (seq 0 m) (fun h => entry (t := scalar) m (entry (t := vector m) k W2 i) h *
    tanh (rsum (seq 0 d) (fun j => entry (t := scalar) d (entry (t := vector d) m W1 h) j * x j)
          + entry (t := scalar) m b1 h))
  + entry (t := scalar) k b2 i.

Lemma two_layer_is_mlp d m k theta x i : two_layer d m k theta x i = mlp tanh d [m] k theta x i.
Proof. destruct theta as [[W1 b1] [W2 b2]]. reflexivity. Qed.

Theorem two_layer_tanh (d m k : nat) (distilled : list nat) (data : list (nat -> R))
  (theta0 D : space (mlp_tree d [m] k)) :
  distilled <> [] ->
  let T := mlp_tree d [m] k in
  let loss e theta := rsum data (fun x => / INR (length data) *
    kl distilled (fun _ => 1) (two_layer d m k theta x) (two_layer d m k (plus theta0 (scal e D)) x)) in
  let update e := opp (grad T (loss e) theta0) in
  (forall e, is_gradient (dot T) (loss e) theta0 (opp (update e))) /\
  exists e0, 0 < e0 /\ forall e, 0 < e < e0 -> 0 <= dot T D (update e).
Proof.
  intros Hne T loss update.
  set (w := fun _ : nat -> R => / INR (length data)).
  assert (Hw : forall x, In x data -> 0 <= w x).
  { intros x Hx. left. apply Rinv_0_lt_compat. apply lt_0_INR. destruct data; [contradiction|]. apply Nat.lt_0_succ. }
  assert (Hs : forall x, In x data -> smooth_on tanh d [m] k theta0 x).
  { intros x _. apply smooth_activation. apply tanh_differentiable. }
  pose proof (mlp_cross_entropy tanh d k [m] distilled data w Hw theta0 D Hs Hne) as H.
  assert (Heq : forall e, loss e = expected_kl tanh d k [m] distilled data w theta0 D e).
  { intros e. apply FunctionalExtensionality.functional_extensionality. intros theta.
    unfold loss, expected_kl. apply rsum_ext. intros x _. f_equal.
    replace (two_layer d m k theta x) with (mlp tanh d [m] k theta x).
    - replace (two_layer d m k (plus theta0 (scal e D)) x) with (mlp tanh d [m] k (plus theta0 (scal e D)) x);
        [reflexivity|].
      apply FunctionalExtensionality.functional_extensionality. intros i. symmetry. apply two_layer_is_mlp.
    - apply FunctionalExtensionality.functional_extensionality. intros i. symmetry. apply two_layer_is_mlp. }
  cbv zeta in H. destruct H as [H1 [[e0 [He0 H2]] _]]. unfold update. split.
  - intros e. rewrite Heq. apply H1.
  - exists e0. split; [exact He0|]. intros e He. rewrite Heq. apply H2. exact He.
Qed.
