(** * Parameter spaces

    Parameters live in any real normed space V. A [pairing] is a symmetric bilinear form on V; the gradient of a
    function is the vector that represents its derivative through the pairing. For arrays it is the sum of products of
    entries (Vectors.v). Lemma 1 and Theorem 1 never use that the pairing is positive or complete, so V may be a
    subspace (frozen layers, adapters), weight-sharing included; only the multi-step results ask for <v, v> >= 0. *)
Require Import Reals List Lra Psatz.
From Coquelicot Require Import Coquelicot.
From Sublim Require Import Sums Derivatives.
Open Scope R_scope.

Record pairing (V : NormedModule R_AbsRing) := Pairing {
  ip :> V -> V -> R;
  ip_plus : forall g u v, ip g (plus u v) = ip g u + ip g v;
  ip_scal : forall g c v, ip g (scal c v) = c * ip g v;
  ip_sym : forall u v, ip u v = ip v u }.
Arguments ip {V}.
Arguments ip_plus {V}.
Arguments ip_scal {V}.
Arguments ip_sym {V}.

Section Pairing.
Context {V : NormedModule R_AbsRing}.
Variable P : pairing V.

Lemma ip_plus_l u v g : P (plus u v) g = P u g + P v g.
Proof. rewrite (ip_sym P), (ip_plus P), !(ip_sym P g). reflexivity. Qed.

Lemma ip_scal_l c v g : P (scal c v) g = c * P v g.
Proof. rewrite (ip_sym P), (ip_scal P), (ip_sym P g). reflexivity. Qed.

Lemma ip_zero g : P g zero = 0.
Proof.
  transitivity (P g (scal (0 : R) (zero : V))).
  - f_equal. symmetry. exact (scal_zero_l (V := V) zero).
  - rewrite (ip_scal P). apply Rmult_0_l.
Qed.

Lemma ip_opp g v : P g (opp v) = - P g v.
Proof. rewrite <- (scal_opp_one (V := V)), (ip_scal P). unfold opp, one; simpl. ring. Qed.

Lemma ip_minus g u v : P g (minus u v) = P g u - P g v.
Proof. unfold minus. rewrite (ip_plus P), ip_opp. reflexivity. Qed.

Lemma ip_minus_l g u v : P (minus u v) g = P u g - P v g.
Proof. rewrite !(ip_sym P _ g). apply ip_minus. Qed.

Lemma ip_vsum {B : Type} g (l : list B) (h : B -> V) : P g (vsum l h) = rsum l (fun i => P g (h i)).
Proof. induction l as [|b l IH]; simpl; [apply ip_zero|]. rewrite (ip_plus P), IH. reflexivity. Qed.
End Pairing.

(** [is_gradient P F x g]: F is Frechet-differentiable at x and g is its gradient there. *)
Definition is_gradient {V : NormedModule R_AbsRing} (P : pairing V) (F : V -> R) (x g : V) : Prop :=
  filterdiff F (locally x) (fun h => P g h).

(** Chain rule with a gradient: d/de F(u(e)) = <grad F, u'>. *)
Lemma gradient_along {V : NormedModule R_AbsRing} (P : pairing V) (u : R -> V) (du : V) (F : V -> R) (g : V) t :
  is_derive u t du -> is_gradient P F (u t) g -> is_derive (fun e => F (u e)) t (P g du).
Proof. intros Hu HF. apply (path_derive u du F (fun h => P g h)); assumption. Qed.

(** The real line with multiplication: the smallest parameter space. *)
Definition pairing_R : pairing R_NormedModule.
Proof.
  refine (Pairing R_NormedModule Rmult _ _ _); intros; unfold plus, scal; simpl; unfold mult; simpl; ring.
Defined.

(** Two blocks of parameters side by side: the inner products add. *)
Definition pairing_prod {U V : NormedModule R_AbsRing} (P : pairing U) (Q : pairing V) :
  pairing (prod_NormedModule R_AbsRing U V).
Proof.
  refine (Pairing (prod_NormedModule R_AbsRing U V) (fun a b => P (fst a) (fst b) + Q (snd a) (snd b)) _ _ _).
  - intros g [u1 u2] [v1 v2]. simpl. rewrite (ip_plus P), (ip_plus Q). ring.
  - intros g c [v1 v2]. simpl. rewrite (ip_scal P), (ip_scal Q). ring.
  - intros u v. rewrite (ip_sym P), (ip_sym Q). reflexivity.
Defined.
