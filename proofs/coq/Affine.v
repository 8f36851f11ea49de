(** * Statements that hold at every e, not only at small ones

    Logits that are affine in the parameters along D: linear models, a student that trains its last layer only, the
    linearised (tangent-kernel) network. And, for networks in general, a radius that can be computed. *)
Require Import Reals List Lra Psatz.
From Coquelicot Require Import Coquelicot.
From Sublim Require Import Sums Derivatives InnerProduct Softmax Alignment CrossEntropy SquaredError.
Open Scope R_scope.

(** ** Monotone pulls
    If -d/dz l(z, y) = F(y) - F(z) with F monotone (F is the gradient of a convex function: squared error,
    cross-entropy, tempered or masked cross-entropy, logistic and Poisson loss) and the teacher's logits are affine in
    e, then the alignment is non-negative for EVERY e >= 0. The Brier score satisfies Lemma 1 and is not of this form;
    there the sign can be lost at large e. *)
Theorem monotone_affine_nonneg {V : NormedModule R_AbsRing} {X I : Type} (P : pairing V)
  (idx : list I) (data : list X) (w : X -> R) (f : V -> X -> I -> R) (theta0 : V) (J : X -> I -> V) (D : V)
  (F : X -> (I -> R) -> I -> R) :
  (forall x, In x data -> 0 <= w x) ->
  (forall x z y, In x data -> 0 <= rsum idx (fun i => (F x y i - F x z i) * (y i - z i))) ->
  (forall x e i, teacher_logits f theta0 D x e i = f theta0 x i + e * logit_tangent P J D x i) ->
  forall e, 0 <= e ->
  0 <= alignment P idx data w J D (fun x e i => F x (teacher_logits f theta0 D x e) i - F x (f theta0 x) i) e.
Proof.
  intros w_nonneg Hmono Haff e He.
  rewrite alignment_formula. apply rsum_nonneg. intros x Hx. apply Rmult_le_pos; [auto|].
  destruct (Req_dec e 0) as [->|Hne].
  - replace (teacher_logits f theta0 D x 0) with (f theta0 x).
    + rewrite rsum_zero; [lra|]. intros i _. ring.
    + unfold teacher_logits. rewrite line_at_0. reflexivity.
  - specialize (Hmono x (f theta0 x) (teacher_logits f theta0 D x e) Hx).
    rewrite (rsum_ext idx _ (fun i => / e * ((F x (teacher_logits f theta0 D x e) i - F x (f theta0 x) i)
                                             * (teacher_logits f theta0 D x e i - f theta0 x i)))).
    + rewrite rsum_scal. apply Rmult_le_pos; [|exact Hmono]. left. apply Rinv_0_lt_compat. lra.
    + intros i _. rewrite (Haff x e i). field. exact Hne.
Qed.

(** The softmax is monotone: it is the gradient of the convex log-partition function. *)
Lemma softmax_monotone {I : Type} (idx : list I) (a : I -> R) :
  (forall i, In i idx -> 0 <= a i) -> (exists i, In i idx /\ 0 < a i) ->
  forall z y, 0 <= rsum idx (fun i => (softmax idx a y i - softmax idx a z i) * (y i - z i)).
Proof.
  intros Ha Hs z y. set (v := fun i => y i - z i). set (path := fun (t : R) (i : I) => z i + t * v i).
  assert (Hd : forall t, is_derive (fun t => mean idx a (path t) v) t (variance idx a (path t) v)).
  { intros t. apply (mean_derive idx a Ha Hs path v t). intros i _. unfold path. auto_derive; auto. ring. }
  destruct (mean_value (fun t => mean idx a (path t) v) (fun t => variance idx a (path t) v) 0 1) as [c [Hc _]];
    [lra|intros; apply Hd|].
  pose proof (variance_nonneg idx a Ha Hs (path c) v) as Hv.
  rewrite (mean_ext idx a (path 1) y v), (mean_ext idx a (path 0) z v) in Hc
    by (intros j; unfold path, v; ring).
  rewrite (rsum_ext _ _ (fun i => softmax idx a y i * v i - softmax idx a z i * v i)) by (intros; unfold v; ring).
  rewrite rsum_minus. fold (mean idx a y v). fold (mean idx a z v). lra.
Qed.

(** ** Cross-entropy with affine logits: non-negative at every e >= 0 *)
Theorem cross_entropy_affine_nonneg {V : NormedModule R_AbsRing} {X I : Type} (P : pairing V)
  (idx : list I) (data : list X) (w : X -> R) (a : X -> I -> R)
  (f : V -> X -> I -> R) (theta0 : V) (J : X -> I -> V) (D : V) :
  (forall x, In x data -> 0 <= w x) ->
  (forall x i, In i idx -> 0 <= a x i) -> (forall x, exists i, In i idx /\ 0 < a x i) ->
  (forall x e i, teacher_logits f theta0 D x e i = f theta0 x i + e * logit_tangent P J D x i) ->
  forall e, 0 <= e -> 0 <= alignment P idx data w J D (pull_ce idx a f theta0 D) e.
Proof.
  intros Hw Ha Hs Haff e He.
  apply (monotone_affine_nonneg P idx data w f theta0 J D (fun x => softmax idx (a x))); auto.
  intros x z y _. apply softmax_monotone; auto.
Qed.

(** ** Squared error with affine logits: alignment(e) = e A exactly *)
Theorem squared_error_affine_exact {V : NormedModule R_AbsRing} {X I : Type} (P : pairing V)
  (idx : list I) (data : list X) (w : X -> R) (q : X -> I -> R)
  (f : V -> X -> I -> R) (theta0 : V) (J : X -> I -> V) (D : V) :
  (forall x e i, teacher_logits f theta0 D x e i = f theta0 x i + e * logit_tangent P J D x i) ->
  forall e, alignment P idx data w J D (pull_se q f theta0 D) e = e * coefficient_se P idx data w q J D.
Proof.
  intros Haff e. rewrite alignment_formula. unfold coefficient_se. rewrite <- rsum_scal. apply rsum_ext. intros x Hx.
  rewrite <- !rsum_scal. apply rsum_ext. intros i Hi. unfold pull_se. rewrite Haff. ring.
Qed.

(** ** A radius of validity that can be computed
    For any function g with g(0) = 0 and g'(0) = A > 0, a bound g'' >= -K on [0, r] gives g > 0 on (0, e] for every
    e <= r with K e < 2 A. With g the alignment this is the certified epsilon*; the bound on g'' comes from interval
    arithmetic, which is not verified here. *)
Theorem certified_radius (g dg ddg : R -> R) (A K r : R) :
  g 0 = 0 -> dg 0 = A ->
  (forall t, 0 <= t <= r -> is_derive g t (dg t)) ->
  (forall t, 0 <= t <= r -> is_derive dg t (ddg t)) ->
  (forall t, 0 <= t <= r -> - K <= ddg t) ->
  forall e, 0 < e <= r -> K * e < 2 * A -> 0 < g e.
Proof.
  intros H0 HA Hg Hdg HK e He Hke.
  pose proof (taylor_lower_bound g dg ddg K r Hg Hdg HK e ltac:(lra)) as H. rewrite H0, HA in H. nra.
Qed.
