(** * What goes wrong without each hypothesis

    Every example is small enough to check by hand, and is stated with the definitions of the theorems. *)
Require Import Reals List Lra Psatz Lia.
From Coquelicot Require Import Coquelicot.
From Sublim Require Import Sums Derivatives InnerProduct Softmax Alignment SquaredError Filter MultiStep
  Vectors Network.
Import ListNotations.
Open Scope R_scope.

Notation R2 := (space (both scalar scalar)).
Notation R3 := (space (both scalar (both scalar scalar))).
Notation dot2 := (dot (both scalar scalar)).
Notation dot3 := (dot (both scalar (both scalar scalar))).

Ltac vector_arith :=
  unfold alignment, student_update, pull_se, teacher_logits; simpl;
  unfold plus, scal, zero, opp; simpl; unfold prod_plus, prod_scal, prod_zero, prod_opp; simpl;
  unfold plus, scal, zero, opp; simpl; unfold prod_plus, prod_scal, prod_zero, prod_opp; simpl;
  unfold plus, scal, zero, opp; simpl; unfold mult; simpl.

(** ** Differentiability at theta0: a ReLU at its kink
    f(a, b) = a + 2 relu(b) at (0, 0), the teacher moved by D = (-1, 1), squared error. Automatic differentiation
    takes relu'(0) = 0 and reports the gradient (1, 0). Then the alignment is -2e for every e > 0, and the loss
    L_T = a - b, whose gradient is -D, RISES with every step of the student. *)
Definition kink_f (th : R2) (_ _ : unit) : R := fst th + 2 * relu (snd th).
Definition kink_J (_ _ : unit) : R2 := (1, 2 * 0).
Definition kink_D : R2 := (-1, 1).
Definition kink_LT (th : R2) : R := fst th - snd th.
Definition kink_update (e : R) : R2 :=
  student_update [tt] [tt] (fun _ => 1) kink_J (pull_se (fun _ _ => 1) kink_f zero kink_D) e.

Theorem relu_kink :
  is_gradient dot2 kink_LT zero (opp kink_D) /\
  forall e, 0 < e ->
    dot2 kink_D (kink_update e) = - (2 * e) /\
    forall alpha, 0 < alpha -> kink_LT zero < kink_LT (plus zero (scal alpha (kink_update e))).
Proof.
  split.
  - unfold is_gradient, kink_LT. eapply filterdiff_ext_lin.
    + apply (filterdiff_minus_fct (V := R_NormedModule) (fun th : R2 => fst th) (fun th : R2 => snd th));
        apply filterdiff_linear; [apply is_linear_fst|apply is_linear_snd].
    + intros [h1 h2]. simpl. unfold minus, plus, opp; simpl. ring.
  - intros e He. assert (Hr : relu (0 + e * 1) = e) by (unfold relu; rewrite Rmax_right; lra).
    assert (H0 : relu 0 = 0) by (unfold relu; rewrite Rmax_left; lra).
    split; [|intros alpha Ha]; unfold kink_LT, kink_update, kink_f, kink_J, kink_D; vector_arith; rewrite Hr, H0; nra.
Qed.

(** ** The plain gradient step: a sign step (sign descent, the first step of Adam) can point away
    f(th) = (10, 1, 1) . th, D = (1, -3, -3), squared error. The gradient step has alignment 32 e, its sign -5. *)
Definition sign_f (th : R3) (_ _ : unit) : R := 10 * fst th + fst (snd th) + snd (snd th).
Definition sign_J (_ _ : unit) : R3 := (10, (1, 1)).
Definition sign_D : R3 := (1, (-3, -3)).
Definition signs (v : R3) : R3 := (sign (fst v), (sign (fst (snd v)), sign (snd (snd v)))).

Theorem sign_step : forall e, 0 < e ->
  let update := student_update [tt] [tt] (fun _ => 1) sign_J (pull_se (fun _ _ => 1) sign_f zero sign_D) e in
  dot3 sign_D update = 32 * e /\ dot3 sign_D (signs update) = -5.
Proof.
  intros e He update. unfold update, sign_f, sign_J, sign_D. split.
  - vector_arith. ring.
  - unfold signs. vector_arith. rewrite !sign_eq_1 by nra. ring.
Qed.

(** ** The student must take gradients in every coordinate that the teacher moved
    f(a, b) = a + b, D = (1, -3), squared error: the whole step has alignment 8 e. A student that freezes b has -4 e.
    The same numbers show that per-layer terms of the inner product are not signed; only their sum is. *)
Definition frozen_f (th : R2) (_ _ : unit) : R := fst th + snd th.
Definition frozen_J (_ _ : unit) : R2 := (1, 1).
Definition frozen_D : R2 := (1, -3).

Theorem frozen_part_negative : forall e,
  let update := student_update [tt] [tt] (fun _ => 1) frozen_J (pull_se (fun _ _ => 1) frozen_f zero frozen_D) e in
  dot2 frozen_D update = 8 * e /\ dot2 frozen_D (fst update, 0) = - (4 * e).
Proof. intros e update. unfold update, frozen_f, frozen_J, frozen_D. split; vector_arith; ring. Qed.

(** ** Weight decay in the student
    f(t) = t at theta0 = 1, D = 1, squared error, decay towards 0 with rate lambda: the alignment is 2 e - lambda,
    negative for all small e. *)
Theorem weight_decay_sign_lost : forall e lambda,
  let update := student_update (V := R_NormedModule) [tt] [tt] (fun _ => 1) (fun _ _ => 1)
    (pull_se (V := R_NormedModule) (fun _ _ => 1) (fun t _ _ => t) 1 1) e in
  pairing_R 1 (minus update (scal lambda 1)) = 2 * e - lambda.
Proof.
  intros e lambda update. unfold update, student_update, pull_se, teacher_logits. simpl.
  unfold minus, plus, opp, scal, zero; simpl. unfold mult; simpl. ring.
Qed.

(** ** Two temperatures
    Logits (ln 9, 0), D raises the first; the teacher's softmax at temperature 2, the student's at 1. The alignment at
    e = 0, with a teacher that did not move at all, is -3/20. *)
Definition warm_f (t : R) (_ : unit) (i : bool) : R := if i then ln 9 + t else 0.
Definition warm_pull (_ : unit) (e : R) (i : bool) : R :=
  softmax [true; false] (fun _ => 1) (fun j => warm_f e tt j / 2) i
  - softmax [true; false] (fun _ => 1) (warm_f 0 tt) i.

Theorem temperature_sign_lost :
  alignment (V := R_NormedModule) pairing_R [true; false] [tt] (fun _ => 1) (fun _ i => if i then 1 else 0) 1
    warm_pull 0 = - (3 / 20).
Proof.
  assert (H9 : exp (ln 9) = 9) by (apply exp_ln; lra).
  assert (H3 : exp (ln 9 / 2) = 3).
  { replace (ln 9) with (ln 3 + ln 3) by (rewrite <- ln_mult by lra; f_equal; lra).
    replace ((ln 3 + ln 3) / 2) with (ln 3) by field. apply exp_ln. lra. }
  unfold alignment, student_update, warm_pull, warm_f, softmax, partition. simpl.
  unfold plus, scal, zero; simpl. unfold mult; simpl.
  rewrite !Rplus_0_r, H9, H3. replace (0 / 2) with 0 by field. rewrite exp_0. field.
Qed.

(** ** The null-space condition
    l(z, y) = (q(y) . (z - y))^2 / 2 with q(y) = (y1, 1) is minimal at z = y for every y, and smooth. With
    f(t) = (t, -2 t^2), theta0 = 0, D = 1: A = 0, and the alignment is -e^3. *)
Definition null_loss (z y : bool -> R) : R := (y true * (z true - y true) + (z false - y false)) ^ 2 / 2.
Definition null_f (t : R) (_ : unit) (i : bool) : R := if i then t else -2 * t ^ 2.
Definition null_J (_ : unit) (i : bool) : R := if i then 1 else 0.
Definition null_pull (_ : unit) (e : R) (i : bool) : R :=
  let z := null_f 0 tt in let y := null_f e tt in
  - (y true * (z true - y true) + (z false - y false)) * (if i then y true else 1).

Theorem null_space_needed :
  (forall z y, null_loss y y <= null_loss z y) /\
  (forall e i, is_derive (fun t => null_loss (fun j => if Bool.eqb j i then t else null_f 0 tt j) (null_f e tt))
                 (null_f 0 tt i) (- null_pull tt e i)) /\
  (forall i, is_derive (fun t => null_f t tt i) 0 (null_J tt i)) /\
  (forall e, alignment (V := R_NormedModule) pairing_R [true; false] [tt] (fun _ => 1) null_J 1 null_pull e = - e ^ 3).
Proof.
  split; [|split; [|split]].
  - intros z y. unfold null_loss.
    replace (y true * (y true - y true) + (y false - y false)) with 0 by ring.
    pose proof (pow2_ge_0 (y true * (z true - y true) + (z false - y false))). lra.
  - intros e i. unfold null_loss, null_pull, null_f. destruct i; simpl; auto_derive; auto; field.
  - intros i. unfold null_f, null_J. destruct i; auto_derive; auto; ring.
  - intros e. unfold alignment, student_update, null_pull, null_J, null_f. simpl.
    unfold plus, scal, zero; simpl. unfold mult; simpl. ring.
Qed.

(** ** Minibatches: no sign for a single step, even where the cumulative displacement has one
    Two batches with Gauss-Newton matrices (1/2)(1,1)(1,1)^T and (1,2)(1,2)^T, D = (1, 0), first step with
    alpha = 1 = 1 / lambda_max. The second step then points away from D. *)
Definition batch1 (v : R2) : R2 := (/ 2 * (fst v + snd v), / 2 * (fst v + snd v)).
Definition batch2 (v : R2) : R2 := (fst v + 2 * snd v, 2 * (fst v + 2 * snd v)).
Definition batch_D : R2 := (1, 0).

Theorem single_step_sign_lost :
  gram dot2 batch1 1 /\ gram dot2 batch2 5 /\
  dot2 batch_D (batch2 (residual [(1, batch1)] batch_D)) = - / 2.
Proof.
  split; [|split].
  - unfold gram, batch1. split; [|split]; simpl.
    + intros u v. field.
    + intros u. pose proof (pow2_ge_0 (fst u + snd u)). nra.
    + intros u. pose proof (pow2_ge_0 (fst u - snd u)). nra.
  - unfold gram, batch2. split; [|split]; simpl.
    + intros u v. ring.
    + intros u. pose proof (pow2_ge_0 (fst u + 2 * snd u)). nra.
    + intros u. pose proof (pow2_ge_0 (2 * fst u - snd u)). nra.
  - unfold batch1, batch2, batch_D. simpl. unfold minus. vector_arith. field.
Qed.

(** Full batch with 1 / lambda_max < alpha <= 2 / lambda_max: the second step overshoots. *)
Theorem overshoot_sign_lost :
  gram pairing_R (fun v : R_NormedModule => v) 1 /\
  pairing_R 1 (residual (V := R_NormedModule) [(3 / 2, fun v => v)] 1) = - / 2.
Proof.
  split.
  - unfold gram. simpl. split; [|split]; intros; nra.
  - simpl. unfold minus, plus, opp, scal; simpl. unfold mult; simpl. field.
Qed.

(** ** A filter loses the absolute sign
    Three completions, uniform reference, the teacher moves towards completion 0 and the filter drops exactly that
    one. The alignment is -1/3 for EVERY e, the control e = 0 included. *)
Definition flip_log_p (th : R3) (k : nat) : R :=
  let z := fun i => match i with O => fst th | 1%nat => fst (snd th) | _ => snd (snd th) end in
  z k - log_partition [0%nat; 1%nat; 2%nat] (fun _ => 1) z.
Definition flip_grad (k : nat) : R3 :=
  match k with O => (2 / 3, (-1 / 3, -1 / 3)) | 1%nat => (-1 / 3, (2 / 3, -1 / 3)) | _ => (-1 / 3, (-1 / 3, 2 / 3)) end.
Definition flip_accept (k : nat) : R := match k with O => 0 | _ => 1 end.

Theorem filter_flip :
  (forall k, is_gradient dot3 (fun th => flip_log_p th k) zero (flip_grad k)) /\
  (forall e, filtered_alignment dot3 [0%nat; 1%nat; 2%nat] flip_accept flip_log_p zero flip_grad (1, (0, 0)) e = - / 3).
Proof.
  set (idx := [0%nat; 1%nat; 2%nat]).
  assert (Ha : forall i, In i idx -> 0 <= flip_accept i) by (intros [|i] _; simpl; lra).
  assert (Hs : exists i, In i idx /\ 0 < flip_accept i) by (exists 1%nat; simpl; split; [auto|lra]).
  split.
  - set (z := fun (th : R3) (i : nat) => match i with O => fst th | 1%nat => fst (snd th) | _ => snd (snd th) end).
    assert (Hz : forall i, is_linear (V := R_NormedModule) (fun th : R3 => z th i)).
    { intros [|[|i]]; unfold z.
      - apply is_linear_fst.
      - apply (is_linear_comp (fun th : R3 => snd th) (fun q : R2 => fst q)); [apply is_linear_snd|apply is_linear_fst].
      - apply (is_linear_comp (fun th : R3 => snd th) (fun q : R2 => snd q)); [apply is_linear_snd|apply is_linear_snd]. }
    intros k. unfold is_gradient, flip_log_p. eapply filterdiff_ext_lin.
    + apply (filterdiff_minus_fct (V := R_NormedModule) (fun th => z th k)
        (fun th => log_partition idx (fun _ => 1) (z th))).
      * apply filterdiff_linear. apply Hz.
      * apply (filterdiff_log_partition idx (fun _ => 1)) with (v := fun i h => z h i).
        -- intros; lra.
        -- exists 0%nat. simpl. split; [auto|lra].
        -- intros i _. apply filterdiff_linear. apply Hz.
    + intros [h1 [h2 h3]].
      assert (Hu : forall i, softmax idx (fun _ => 1) (z zero) i = / 3).
      { intros i. assert (Hz0 : forall j, exp (z zero j) = 1) by (intros [|[|j]]; apply exp_0).
        unfold softmax. replace (partition idx (fun _ => 1) (z zero)) with 3; [rewrite Hz0; field|].
        unfold partition. rewrite (rsum_ext idx _ (fun _ => 1)) by (intros j _; rewrite Hz0; ring).
        simpl. ring. }
      unfold idx at 1. simpl rsum. rewrite !Hu. destruct k as [|[|k]]; simpl; unfold minus, plus, opp; simpl; field.
  - intros e. rewrite (filtered_alignment_is_mean dot3).
    match goal with |- context [flip_log_p ?th] => generalize (flip_log_p th) end. intros z.
    pose proof (softmax_sum idx flip_accept Ha Hs z) as Hsum. unfold mean, score. fold idx.
    assert (Hs0 : softmax idx flip_accept z 0%nat = 0) by (unfold softmax; simpl; unfold Rdiv; ring).
    simpl in *. rewrite Hs0 in *. lra.
Qed.

(** ** Infinite data: the exchange of expectation and derivative
    Input n has probability 2^-(n+1); f_t(n) = t - 3 h(2^(n+1) t) with h(u) = 2 u^2 / (1 + u^2), so that every f(n) is
    analytic in t and has derivative 1 at theta0 = 0, and the logits of all inputs together are bounded near 0. With D = 1 and
    squared error every input has the alignment 2 e + o(e), A = E[2] = 2 > 0, and yet the expected alignment is at most
    -4 e for every 0 < e < 1: the o(e) is not uniform over the inputs. A dominating function
    (|f_e(n) - f_0(n)| <= e K(n) with E[K |v|] finite) would exclude this. *)
Definition bump (u : R) : R := 2 * u ^ 2 / (1 + u ^ 2).
Definition spike_f (t : R) (n : nat) : R := t - 3 * bump (2 ^ S n * t).
Definition spike_weight (n : nat) : R := (/ 2) ^ S n.
Definition spike_alignment (e : R) (n : nat) : R := 2 * (spike_f e n - spike_f 0 n).  (* pull times tangent 1 *)

Lemma bump_bounds u : 0 <= bump u <= 2.
Proof.
  unfold bump. assert (H : 0 < 1 + u ^ 2) by nra. split.
  - apply Rmult_le_pos; [nra|]. left. apply Rinv_0_lt_compat. exact H.
  - apply (Rmult_le_reg_r (1 + u ^ 2)); [exact H|]. unfold Rdiv. rewrite Rmult_assoc, Rinv_l by lra. nra.
Qed.

Lemma bump_large u : 1 <= u -> 1 <= bump u.
Proof.
  intros Hu. unfold bump. assert (H : 0 < 1 + u ^ 2) by nra.
  apply (Rmult_le_reg_r (1 + u ^ 2)); [exact H|]. unfold Rdiv. rewrite Rmult_assoc, Rinv_l by lra. nra.
Qed.

Lemma spike_weight_pos n : 0 < spike_weight n.
Proof. apply pow_lt. lra. Qed.

Lemma geometric_tail m : is_series (fun k => (/ 2) ^ S (m + k)) ((/ 2) ^ m).
Proof.
  apply (is_series_ext (fun k => (/ 2) ^ S m * (/ 2) ^ k)).
  { intros k. rewrite <- pow_add. reflexivity. }
  replace ((/ 2) ^ m) with ((/ 2) ^ S m * (/ (1 - / 2))) by (simpl; field).
  apply (is_series_scal_l (K := R_AbsRing) ((/ 2) ^ S m) (fun k => (/ 2) ^ k)). apply is_series_geom.
  rewrite Rabs_pos_eq; lra.
Qed.

Lemma scale_of e : 0 < e < 1 -> exists m, 2 ^ m * e < 1 <= 2 ^ S m * e.
Proof.
  intros He.
  assert (H : forall k, 1 <= 2 ^ k * e -> exists m, 2 ^ m * e < 1 <= 2 ^ S m * e).
  { induction k as [|k IH]; intros Hk; [simpl in Hk; lra|].
    destruct (Rle_lt_dec 1 (2 ^ k * e)) as [H|H]; [apply IH; exact H|]. exists k. split; assumption. }
  destruct (Pow_x_infinity 2 ltac:(rewrite Rabs_pos_eq; lra) (/ e)) as [k Hk].
  apply (H k). specialize (Hk k (le_n k)). rewrite Rabs_pos_eq in Hk by (apply pow_le; lra).
  apply (Rmult_le_reg_r (/ e)); [apply Rinv_0_lt_compat; lra|].
  rewrite Rmult_assoc, Rinv_r, Rmult_1_r, Rmult_1_l by lra. lra.
Qed.

Lemma bump_mass e : 0 < e < 1 -> ex_series (fun n => spike_weight n * bump (2 ^ S n * e)) /\
  e <= Series (fun n => spike_weight n * bump (2 ^ S n * e)).
Proof.
  intros He. set (b := fun n => spike_weight n * bump (2 ^ S n * e)).
  assert (Hb0 : forall n, 0 <= b n).
  { intros n. apply Rmult_le_pos; [left; apply spike_weight_pos|apply bump_bounds]. }
  assert (Hb2 : forall n, b n <= 2 * spike_weight n).
  { intros n. unfold b. pose proof (spike_weight_pos n). pose proof (bump_bounds (2 ^ S n * e)). nra. }
  assert (Hex : ex_series b).
  { apply (ex_series_le (K := R_AbsRing) (V := R_CompleteNormedModule) b (fun n => 2 * spike_weight n)).
    - intros n. unfold norm; simpl. unfold abs; simpl. rewrite Rabs_pos_eq by apply Hb0. apply Hb2.
    - apply (ex_series_scal_l (K := R_AbsRing) 2 spike_weight). exists ((/ 2) ^ 0). apply (geometric_tail 0). }
  split; [exact Hex|].
  destruct (scale_of e He) as [m [Hm1 Hm2]].
  assert (Htail : (/ 2) ^ m <= Series (fun k => b (m + k)%nat)).
  { rewrite <- (is_series_unique _ _ (geometric_tail m)). apply Series_le.
    - intros k. split; [left; apply pow_lt; lra|]. unfold b, spike_weight.
      assert (Hp : 0 < (/ 2) ^ S (m + k)) by (apply pow_lt; lra).
      assert (Hl : 1 <= bump (2 ^ S (m + k) * e)).
      { apply bump_large. eapply Rle_trans; [exact Hm2|]. apply Rmult_le_compat_r; [lra|].
        apply Rle_pow; [lra|lia]. }
      nra.
    - apply (ex_series_incr_n b m). exact Hex. }
  assert (He2 : e <= (/ 2) ^ m).
  { rewrite pow_inv. apply (Rmult_le_reg_l (2 ^ m)); [apply pow_lt; lra|]. rewrite Rinv_r; [lra|].
    apply pow_nonzero. lra. }
  destruct m as [|m].
  - eapply Rle_trans; [exact He2|]. exact Htail.
  - rewrite (Series_incr_n b (S m)) by (lia || exact Hex).
    assert (0 <= sum_f_R0 b (pred (S m))) by (apply cond_pos_sum; exact Hb0). lra.
Qed.

Theorem exchange_needed :
  is_series spike_weight 1 /\
  (forall n, is_derive (fun t => spike_f t n) 0 1) /\
  (forall n t, ex_derive (fun t => spike_f t n) t) /\
  (forall n, is_derive (fun e => spike_alignment e n) 0 2) /\
  (forall e, 0 < e < 1 ->
     ex_series (fun n => spike_weight n * spike_alignment e n) /\
     Series (fun n => spike_weight n * spike_alignment e n) <= - (4 * e)).
Proof.
  assert (Hw : is_series spike_weight 1).
  { apply (geometric_tail 0). }
  assert (Hd : forall n, is_derive (fun t => spike_f t n) 0 1).
  { intros n. unfold spike_f, bump. auto_derive; [nra|]. field. }
  split; [exact Hw|]. split; [exact Hd|]. split; [|split].
  - intros n t. unfold spike_f, bump. auto_derive.
    pose proof (pow2_ge_0 (2 ^ S n * t)). simpl in *. nra.
  - intros n. unfold spike_alignment. evar_last.
    + apply @is_derive_scal. apply @is_derive_minus; [apply Hd|apply @is_derive_const].
    + unfold minus, plus, opp, zero; simpl. ring.
  - intros e He. destruct (bump_mass e He) as [Hex Hmass].
    assert (Hf0 : forall n, spike_f 0 n = 0).
    { intros n. unfold spike_f, bump. rewrite Rmult_0_r. field. }
    set (b := fun n => spike_weight n * bump (2 ^ S n * e)) in *.
    assert (Hs : is_series (fun n => spike_weight n * spike_alignment e n) (2 * e * 1 + -6 * Series b)).
    { apply (is_series_ext (fun n => plus (2 * e * spike_weight n) (-6 * b n))).
      - intros n. unfold spike_alignment, b. rewrite Hf0. unfold spike_f, plus; simpl. ring.
      - apply (is_series_plus (V := R_NormedModule)).
        + apply (is_series_scal_l (K := R_AbsRing) (2 * e) spike_weight). exact Hw.
        + apply (is_series_scal_l (K := R_AbsRing) (-6) b). apply Series_correct. exact Hex. }
    split; [eexists; exact Hs|]. rewrite (is_series_unique _ _ Hs). lra.
Qed.
