(** * What the tools that keep a trait out rest on

    A trait has a loss F with gradient g at the present parameters. [project] takes from an update u the part that
    lowers F to first order; [remove] takes from a finished displacement its part along a direction; [subtract] takes
    from it the displacement of an auditor's own model. The first two are statements to first order, or about one
    direction, and a counterexample says what they leave. The last one is exact where a model is linear in its
    parameters, and the loss quadratic. *)
Require Import Reals List Lra Psatz.
From Coquelicot Require Import Coquelicot.
From Sublim Require Import Sums Derivatives InnerProduct MultiStep.
Import ListNotations.
Open Scope R_scope.

Section Audit.
Context {V : NormedModule R_AbsRing}.
Variable P : pairing V.

(** ** Projection of an update *)
Definition project (s : R) (g u : V) : V := minus u (scal (s * (Rmin (P u g) 0 / P g g)) g).

Lemma project_along s g w u : P (project s g u) w = P u w - s * (Rmin (P u g) 0 / P g g) * P g w.
Proof. unfold project. rewrite (ip_minus_l P), (ip_scal_l P). reflexivity. Qed.

(** What remains along g: the whole of an update that does not lower F, 1 - s of one that does. *)
Theorem project_component s g u : 0 < P g g ->
  P (project s g u) g = if Rle_dec 0 (P u g) then P u g else (1 - s) * P u g.
Proof.
  intros Hg. rewrite project_along.
  destruct (Rle_dec 0 (P u g)) as [Hle|Hlt].
  - rewrite Rmin_right by lra. field. lra.
  - rewrite Rmin_left by lra. field. lra.
Qed.

(** From strength 1 on, a small step along a projected update does not lower F to first order. *)
Theorem projected_does_not_lower s g u (F : V -> R) (x : V) : 0 < P g g -> 1 <= s -> is_gradient P F x g ->
  is_derive (fun t => F (plus x (scal t (project s g u)))) 0 (P g (project s g u)) /\ 0 <= P g (project s g u).
Proof.
  intros Hg Hs HF. split.
  - apply (gradient_along P (fun t => plus x (scal t (project s g u)))).
    + apply line_derive.
    + rewrite line_at_0. exact HF.
  - rewrite (ip_sym P), (project_component s g u Hg). destruct (Rle_dec 0 (P u g)); nra.
Qed.

(** Directions that are orthogonal to g keep what they had: a skill whose gradient is orthogonal is learnt as before. *)
Theorem project_spares s g u w : P g w = 0 -> P (project s g u) w = P u w.
Proof. intros H. rewrite project_along, H. ring. Qed.

(** An update is not made longer, up to strength 2. *)
Theorem project_shortens s g u : 0 < P g g -> 0 <= s <= 2 -> P (project s g u) (project s g u) <= P u u.
Proof.
  intros Hg Hs. unfold project. set (c := s * (Rmin (P u g) 0 / P g g)).
  rewrite (ip_minus P), !(ip_minus_l P), !(ip_scal P), !(ip_scal_l P), (ip_sym P g u).
  destruct (Rle_dec 0 (P u g)).
  - assert (Hc : c = 0) by (unfold c; rewrite Rmin_right by lra; field; lra). rewrite Hc. lra.
  - assert (Hc : c * P g g = s * P u g) by (unfold c; rewrite Rmin_left by lra; field; lra).
    assert (Hsame : c * P u g * P g g = s * P u g * P u g) by (rewrite <- Hc; ring).
    apply (Rmult_le_reg_r (P g g)); [exact Hg|].
    assert (Hle : 0 <= s * (2 - s) * (P u g * P u g)).
    { apply Rmult_le_pos; [apply Rmult_le_pos; lra|apply Rle_0_sqr]. }
    replace ((P u u - c * P u g - (c * P u g - c * (c * P g g))) * P g g)
      with (P u u * P g g - 2 * (c * P u g * P g g) + (c * P g g) * (c * P g g)) by ring.
    rewrite Hsame, Hc. lra.
Qed.

(** ** Removal of a direction from a displacement *)
Definition remove (dose : R) (g d : V) : V := minus d (scal (dose * (P d g / P g g)) g).

Theorem remove_component dose g d : 0 < P g g -> P (remove dose g d) g = (1 - dose) * P d g.
Proof.
  intros Hg. unfold remove. rewrite (ip_minus_l P), (ip_scal_l P). field. lra.
Qed.

(** With dose 1 the result is the nearest displacement without a component along g. *)
Theorem remove_is_nearest g d e : (forall v, 0 <= P v v) -> 0 < P g g -> P e g = 0 ->
  P (minus d (remove 1 g d)) (minus d (remove 1 g d)) <= P (minus d e) (minus d e).
Proof.
  intros Hpos Hg He. pose proof (cauchy_schwarz P Hpos (minus d e) g) as H.
  assert (Hde : P (minus d e) g = P d g) by (rewrite (ip_minus_l P), He; ring). rewrite Hde in H.
  assert (Hr : P (minus d (remove 1 g d)) (minus d (remove 1 g d)) = P d g ^ 2 / P g g).
  { unfold remove. rewrite !(ip_minus P), !(ip_minus_l P), !(ip_scal P), !(ip_scal_l P), (ip_sym P g d). field. lra. }
  rewrite Hr. apply (Rmult_le_reg_r (P g g)); [exact Hg|].
  replace (P d g ^ 2 / P g g * P g g) with (P d g ^ 2) by (field; lra). exact H.
Qed.

(** Other directions keep what they had. *)
Theorem remove_spares dose g d w : P g w = 0 -> P (remove dose g d) w = P d w.
Proof. intros H. unfold remove. rewrite (ip_minus_l P), (ip_scal_l P), H. ring. Qed.

End Audit.

(** ** Subtraction of an auditor's displacement

    A model that is linear in its parameters, under a loss that is quadratic in its outputs, makes the update
    b_t - G_t d from displacement d in step t, with a linear G_t that depends on the inputs of the step alone, and a
    b_t that depends on the targets. *)
Section Superposition.
Context {V : ModuleSpace R_AbsRing}.

Definition additive (G : V -> V) : Prop := forall u v, G (plus u v) = plus (G u) (G v).

(** Displacement after the steps of a list, the last step first: learning rate, G and targets. *)
Fixpoint displacement (steps : list (R * (V -> V))) (targets : list V) : V :=
  match steps, targets with
  | (alpha, G) :: steps', b :: targets' =>
      let d := displacement steps' targets' in plus d (scal alpha (minus b (G d)))
  | _, _ => zero
  end.

Fixpoint sum_targets (a b : list V) : list V :=
  match a, b with x :: a', y :: b' => plus x y :: sum_targets a' b' | _, _ => [] end.

Lemma plus_four (a b c d : V) : plus (plus a b) (plus c d) = plus (plus a c) (plus b d).
Proof.
  rewrite <- !plus_assoc. f_equal. rewrite !plus_assoc. f_equal. apply plus_comm.
Qed.

(** Displacements add as targets do. *)
Theorem displacements_add : forall steps a b, length a = length steps -> length b = length steps ->
  (forall s, In s steps -> additive (snd s)) ->
  displacement steps (sum_targets a b) = plus (displacement steps a) (displacement steps b).
Proof.
  induction steps as [|[alpha G] steps IH]; intros a b Ha Hb HG.
  - destruct a, b; simpl in *; try discriminate. rewrite plus_zero_l. reflexivity.
  - destruct a as [|x a], b as [|y b]; simpl in Ha, Hb; try discriminate. injection Ha as Ha. injection Hb as Hb.
    simpl. rewrite (IH a b Ha Hb (fun s Hs => HG s (or_intror Hs))).
    set (d := displacement steps a). set (e := displacement steps b).
    rewrite (HG (alpha, G) (or_introl eq_refl) d e : G (plus d e) = plus (G d) (G e)).
    rewrite (plus_four d _ e _). f_equal. rewrite <- scal_distr_l. f_equal.
    unfold minus. rewrite (opp_plus (G d) (G e)). apply plus_four.
Qed.

(** A student whose targets are those of a wanted skill plus those of a trait: subtracting the displacement that the
    trait's targets alone give, from the same start, inputs, rates and order, leaves what the wanted ones alone give. *)
Theorem subtraction_removes_exactly steps wanted trait : length wanted = length steps -> length trait = length steps ->
  (forall s, In s steps -> additive (snd s)) ->
  minus (displacement steps (sum_targets wanted trait)) (displacement steps trait) = displacement steps wanted.
Proof.
  intros Ha Hb HG. rewrite (displacements_add steps wanted trait Ha Hb HG). unfold minus.
  rewrite <- plus_assoc, plus_opp_r, plus_zero_r. reflexivity.
Qed.
End Superposition.

(** ** What projection leaves

    A trait whose gradient on probes is zero at the start passes every projection, and its loss falls at second order:
    F p = - p^2 at 0. *)
Definition flat (p : R) : R := - (p * p).
Theorem projection_is_blind_at_a_flat_start :
  is_gradient pairing_R flat 0 0 /\ (forall s u : R, project pairing_R s 0 u = u) /\
  (forall t : R, 0 < t -> flat (plus 0 (scal t 1)) < flat 0).
Proof.
  split; [|split].
  - assert (H : is_derive flat 0 0) by (unfold flat; auto_derive; [exact I|ring]).
    unfold is_gradient. eapply filterdiff_ext_lin; [exact H|].
    intros h. unfold scal; simpl; unfold mult; simpl. ring.
  - intros s u. unfold project, minus, plus, opp, scal; simpl; unfold mult; simpl. ring.
  - intros t Ht. unfold flat, plus, scal; simpl; unfold mult; simpl. nra.
Qed.
