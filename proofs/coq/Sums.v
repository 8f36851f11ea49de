(** * Finite sums

    Data sets, logits and completions are finite here: a sum over a list. [rsum] adds real numbers (losses, inner
    products), [vsum] adds vectors (gradients). Nothing in this file is about learning. *)
Require Import Reals List Lra Psatz.
From Coquelicot Require Import Coquelicot.
Open Scope R_scope.

Section Sums.
Context {A : Type}.

Definition rsum (l : list A) (f : A -> R) : R := fold_right (fun i acc => f i + acc) 0 l.

Definition vsum {V : NormedModule R_AbsRing} (l : list A) (f : A -> V) : V :=
  fold_right (fun i acc => plus (f i) acc) zero l.

Lemma rsum_ext l f g : (forall i, In i l -> f i = g i) -> rsum l f = rsum l g.
Proof.
  induction l as [|a l IH]; simpl; intros H; auto.
  rewrite (H a) by auto. rewrite IH by auto. reflexivity.
Qed.

Lemma rsum_plus l f g : rsum l (fun i => f i + g i) = rsum l f + rsum l g.
Proof. induction l as [|a l IH]; simpl; [lra|]. rewrite IH. lra. Qed.

Lemma rsum_scal l c f : rsum l (fun i => c * f i) = c * rsum l f.
Proof. induction l as [|a l IH]; simpl; [lra|]. rewrite IH. lra. Qed.

Lemma rsum_minus l f g : rsum l (fun i => f i - g i) = rsum l f - rsum l g.
Proof. induction l as [|a l IH]; simpl; [lra|]. rewrite IH. lra. Qed.

Lemma rsum_opp l f : rsum l (fun i => - f i) = - rsum l f.
Proof. induction l as [|a l IH]; simpl; [lra|]. rewrite IH. lra. Qed.

Lemma rsum_nonneg l f : (forall i, In i l -> 0 <= f i) -> 0 <= rsum l f.
Proof.
  induction l as [|a l IH]; simpl; intros H; [lra|].
  pose proof (H a (or_introl eq_refl)). assert (0 <= rsum l f) by (apply IH; auto). lra.
Qed.

Lemma rsum_zero l f : (forall i, In i l -> f i = 0) -> rsum l f = 0.
Proof.
  induction l as [|a l IH]; simpl; intros H; [lra|].
  rewrite (H a) by auto. rewrite IH by auto. lra.
Qed.

(** Non-negative terms that add up to zero are all zero. *)
Lemma rsum_nonneg_zero l f :
  (forall i, In i l -> 0 <= f i) -> rsum l f = 0 -> forall i, In i l -> f i = 0.
Proof.
  induction l as [|a l IH]; simpl; intros H H0 i Hi; [contradiction|].
  pose proof (H a (or_introl eq_refl)).
  assert (0 <= rsum l f) by (apply rsum_nonneg; auto).
  destruct Hi as [<-|Hi]; [lra|]. apply IH; auto. lra.
Qed.

Lemma vsum_ext {V : NormedModule R_AbsRing} l (f g : A -> V) :
  (forall i, In i l -> f i = g i) -> vsum l f = vsum l g.
Proof.
  induction l as [|a l IH]; simpl; intros H; auto.
  rewrite (H a) by auto. rewrite IH by auto. reflexivity.
Qed.

Lemma vsum_zero {V : NormedModule R_AbsRing} l (f : A -> V) :
  (forall i, In i l -> f i = zero) -> vsum l f = zero.
Proof.
  induction l as [|a l IH]; simpl; intros H; auto.
  rewrite (H a) by auto. rewrite IH by auto. apply plus_zero_l.
Qed.

(** The derivative of a finite sum is the sum of the derivatives: one variable, a vector-valued path, and a function
    of parameters in any normed space (Frechet). For infinite data this exchange is a hypothesis, and
    [exchange_needed] in Counterexamples.v shows that it cannot be left out. *)
Lemma is_derive_rsum l (f : A -> R -> R) (df : A -> R) x :
  (forall i, In i l -> is_derive (f i) x (df i)) ->
  is_derive (fun t => rsum l (fun i => f i t)) x (rsum l df).
Proof.
  induction l as [|a l IH]; simpl; intros H.
  - apply @is_derive_const.
  - apply @is_derive_plus; [apply H; auto | apply IH; auto].
Qed.

Lemma is_derive_vsum {V : NormedModule R_AbsRing} l (f : A -> R -> V) (df : A -> V) x :
  (forall i, In i l -> is_derive (f i) x (df i)) ->
  is_derive (fun t => vsum l (fun i => f i t)) x (vsum l df).
Proof.
  induction l as [|a l IH]; simpl; intros H.
  - apply @is_derive_const.
  - apply @is_derive_plus; [apply H; auto | apply IH; auto].
Qed.

Lemma filterdiff_rsum {V : NormedModule R_AbsRing} l (f : A -> V -> R) (df : A -> V -> R) (x : V) :
  (forall i, In i l -> filterdiff (f i) (locally x) (df i)) ->
  filterdiff (fun t => rsum l (fun i => f i t)) (locally x) (fun h => rsum l (fun i => df i h)).
Proof.
  induction l as [|a l IH]; simpl; intros H.
  - apply (filterdiff_const (K := R_AbsRing) (V := R_NormedModule) 0).
  - apply (filterdiff_plus_fct (V := R_NormedModule)); [apply H; auto | apply IH; auto].
Qed.

Lemma filterdiff_vsum {U V : NormedModule R_AbsRing} l (f : A -> U -> V) (df : A -> U -> V) (x : U) :
  (forall i, In i l -> filterdiff (f i) (locally x) (df i)) ->
  filterdiff (fun t => vsum l (fun i => f i t)) (locally x) (fun h => vsum l (fun i => df i h)).
Proof.
  induction l as [|a l IH]; simpl; intros H.
  - apply (filterdiff_const (K := R_AbsRing) (V := V) zero).
  - apply (filterdiff_plus_fct (V := V)); [apply H; auto | apply IH; auto].
Qed.
End Sums.
