(** * Facts about derivatives that are used throughout

    [is_derive] is the derivative of a path, [filterdiff f (locally x) l] says that f is Frechet-differentiable at x
    with derivative l. Both are plain differentiability at ONE point: no continuity of the derivative and no second
    derivative is asked for. The paper's "O(eps^2)" needs more (a Lipschitz gradient); "o(eps)" needs only this. *)
Require Import Reals List Lra Psatz.
From Coquelicot Require Import Coquelicot.
Open Scope R_scope.

(** A real function with g(0) = 0 and g'(0) > 0 is positive just after 0. This is where "for all small eps" comes from,
    and why its range is not uniform: the proof gives a radius and says nothing about its size. *)
Lemma pos_near_0 (g : R -> R) (A : R) :
  is_derive g 0 A -> g 0 = 0 -> 0 < A -> exists e0, 0 < e0 /\ forall e, 0 < e < e0 -> 0 < g e.
Proof.
  intros H H0 HA. apply is_derive_Reals in H.
  destruct (H (A/2)) as [d Hd]; [lra|].
  exists d. split; [apply cond_pos|]. intros e [He1 He2].
  assert (Hh := Hd e ltac:(lra) ltac:(rewrite Rabs_pos_eq; lra)).
  rewrite Rplus_0_l, H0, Rminus_0_r in Hh.
  apply Rabs_def2 in Hh. destruct Hh as [_ Hh].
  assert (Hq : 0 < g e / e) by lra.
  replace (g e) with (g e / e * e) by (field; lra).
  apply Rmult_lt_0_compat; lra.
Qed.

(** Fermat: the derivative vanishes at a minimum. *)
Lemma minimum_derive_0 (g : R -> R) (d : R) : is_derive g 0 d -> (forall t, g 0 <= g t) -> d = 0.
Proof.
  intros H Hmin.
  destruct (Rtotal_order d 0) as [Hd|[Hd|Hd]]; auto.
  - destruct (pos_near_0 (fun t => g 0 - g t) (- d)) as [e0 [He0 Hp]].
    + evar_last. apply @is_derive_minus; [apply @is_derive_const|exact H].
      unfold minus, plus, opp, zero; simpl. ring.
    + ring.
    + lra.
    + specialize (Hp (e0/2) ltac:(lra)). specialize (Hmin (e0/2)). lra.
  - assert (Hm : is_derive (fun t => g (- t)) 0 (- d)).
    { evar_last. apply (is_derive_comp g (fun t => - t) 0 d (-1)).
      - rewrite Ropp_0. exact H.
      - auto_derive; auto.
      - unfold scal; simpl; unfold mult; simpl. ring. }
    destruct (pos_near_0 (fun t => g 0 - g (- t)) d) as [e0 [He0 Hp]].
    + evar_last. apply @is_derive_minus; [apply @is_derive_const|exact Hm].
      unfold minus, plus, opp, zero; simpl. ring.
    + rewrite Ropp_0. ring.
    + lra.
    + specialize (Hp (e0/2) ltac:(lra)). specialize (Hmin (- (e0/2))). lra.
Qed.

(** The mean value theorem, in the form used below. *)
Lemma mean_value (g dg : R -> R) (a b : R) :
  a < b -> (forall t, a <= t <= b -> is_derive g t (dg t)) ->
  exists c, g b - g a = dg c * (b - a) /\ a < c < b.
Proof. intros Hab H. apply MVT_cor2; auto. intros c Hc. apply is_derive_Reals. auto. Qed.

(** Second-order condition: where g has a minimum at 0 and g' is differentiable at 0, g''(0) >= 0. *)
Lemma minimum_derive2_nonneg (g dg : R -> R) (d2 : R) :
  (forall t, is_derive g t (dg t)) -> is_derive dg 0 d2 -> (forall t, g 0 <= g t) -> 0 <= d2.
Proof.
  intros Hg Hdg Hmin. destruct (Rle_lt_dec 0 d2) as [?|Hneg]; auto. exfalso.
  assert (H0 : dg 0 = 0) by (apply (minimum_derive_0 g); auto).
  destruct (pos_near_0 (fun t => - dg t) (- d2)) as [e0 [He0 Hp]].
  - apply (is_derive_opp (V := R_NormedModule)). exact Hdg.
  - rewrite H0. ring.
  - lra.
  - destruct (mean_value g dg 0 (e0/2)) as [c [Hc1 Hc2]]; [lra|intros; apply Hg|].
    specialize (Hp c ltac:(lra)). specialize (Hmin (e0/2)). nra.
Qed.

(** Taylor with a lower bound on the second derivative: g(e) >= e g'(0) - K e^2 / 2. *)
Lemma taylor_lower_bound (g dg ddg : R -> R) (K r : R) :
  (forall t, 0 <= t <= r -> is_derive g t (dg t)) ->
  (forall t, 0 <= t <= r -> is_derive dg t (ddg t)) ->
  (forall t, 0 <= t <= r -> - K <= ddg t) ->
  forall e, 0 <= e <= r -> g 0 + e * dg 0 - K * e ^ 2 / 2 <= g e.
Proof.
  intros Hg Hdg HK e He.
  destruct (Req_dec e 0) as [->|Hne]; [lra|].
  assert (Hslope : forall t, 0 <= t <= e -> dg 0 - K * t <= dg t).
  { intros t Ht. destruct (Req_dec t 0) as [->|Hnt]; [lra|].
    destruct (mean_value dg ddg 0 t) as [c [Hc1 Hc2]]; [lra|intros; apply Hdg; lra|].
    specialize (HK c ltac:(lra)). nra. }
  destruct (mean_value (fun t => g t - t * dg 0 + K * t ^ 2 / 2) (fun t => dg t - dg 0 + K * t) 0 e)
    as [c [Hc1 Hc2]]; [lra| |].
  - intros t Ht. pose proof (Hg t ltac:(lra)) as Hgt.
    evar_last.
    + apply @is_derive_plus; [apply @is_derive_minus; [exact Hgt|]|].
      * apply (is_derive_scal_l (K := R_AbsRing) (V := R_NormedModule) (fun t => t) t one (dg 0)). apply @is_derive_id.
      * instantiate (1 := K * t). auto_derive; auto. field.
    + unfold minus, plus, opp, scal, one; simpl; unfold mult; simpl. ring.
  - specialize (Hslope c ltac:(lra)). simpl in Hc1. nra.
Qed.

(** Scaling a vector-valued path scales its derivative. *)
Lemma is_derive_scal_vec {V : NormedModule R_AbsRing} (k : R) (u : R -> V) t du :
  is_derive u t du -> is_derive (fun e => scal k (u e)) t (scal k du).
Proof.
  intros Hu. unfold is_derive in *. eapply filterdiff_ext_lin.
  - apply (filterdiff_comp' u (fun v : V => scal k v) t _ (fun v : V => scal k v) Hu).
    apply filterdiff_linear. apply (is_linear_scal_r (K := R_AbsRing) (V := V) k). intros n m. apply Rmult_comm.
  - intros y. simpl. rewrite !(scal_assoc (V := V)). f_equal. apply Rmult_comm.
Qed.

(** The straight line from b in direction d has derivative d. *)
Lemma line_derive {V : NormedModule R_AbsRing} (b d : V) t : is_derive (fun e : R => plus b (scal e d)) t d.
Proof.
  evar_last.
  - apply @is_derive_plus; [apply @is_derive_const|].
    apply (is_derive_scal_l (K := R_AbsRing) (fun e : R => e) t one d). apply @is_derive_id.
  - rewrite plus_zero_l. apply (scal_one (V := V)).
Qed.

Lemma line_at_0 {V : NormedModule R_AbsRing} (b d : V) : plus b (scal (0 : R) d) = b.
Proof. rewrite (scal_zero_l (V := V)). apply plus_zero_r. Qed.

(** Chain rule for a Frechet-differentiable function along a path of parameters. *)
Lemma path_derive {V W : NormedModule R_AbsRing} (u : R -> V) (du : V) (F : V -> W) (l : V -> W) t :
  is_derive u t du -> filterdiff F (locally (u t)) l -> is_derive (fun e => F (u e)) t (l du).
Proof.
  intros Hu HF. unfold is_derive in *.
  eapply filterdiff_ext_lin; [apply (filterdiff_comp' u F t _ _ Hu HF)|].
  intros k. simpl. destruct HF as [Hl _]. apply (linear_scal l Hl).
Qed.
