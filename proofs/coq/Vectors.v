(** * Concrete parameter spaces: trees of real arrays

    The results of Alignment.v speak of any normed space with a pairing. Here are the spaces of practice: a [tree] is a
    scalar, nothing, or two trees side by side; a vector is a row of scalars, a matrix a row of vectors, the parameters
    of a network a tree of matrices and vectors. Every linear functional on such a space is the inner product with some
    vector (Riesz), so every differentiable logit has a gradient and the hypotheses of Lemma 1 reduce to
    "the network is differentiable at theta0". *)
Require Import Reals List Lra Psatz Lia.
From Coquelicot Require Import Coquelicot.
From Sublim Require Import Sums Derivatives InnerProduct.
Open Scope R_scope.

(** ** The space with one point (Coquelicot has none) *)
Lemma unit_eq (x y : unit) : x = y.
Proof. destruct x, y. reflexivity. Qed.

Definition unit_AbelianGroup_mixin : AbelianGroup.mixin_of unit :=
  AbelianGroup.Mixin unit (fun _ _ => tt) (fun _ => tt) tt
    (fun _ _ => unit_eq _ _) (fun _ _ _ => unit_eq _ _) (fun _ => unit_eq _ _) (fun _ => unit_eq _ _).
Canonical unit_AbelianGroup := AbelianGroup.Pack unit unit_AbelianGroup_mixin unit.

Definition unit_UniformSpace_mixin : UniformSpace.mixin_of unit :=
  UniformSpace.Mixin unit tt (fun _ _ _ => True) (fun _ _ => Logic.I) (fun _ _ _ _ => Logic.I)
    (fun _ _ _ _ _ _ _ => Logic.I).
Canonical unit_UniformSpace := UniformSpace.Pack unit unit_UniformSpace_mixin unit.

Definition unit_ModuleSpace_mixin : ModuleSpace.mixin_of R_Ring unit_AbelianGroup :=
  ModuleSpace.Mixin R_Ring unit_AbelianGroup (fun _ _ => tt)
    (fun _ _ _ => unit_eq _ _) (fun _ => unit_eq _ _) (fun _ _ _ => unit_eq _ _) (fun _ _ _ => unit_eq _ _).
Canonical unit_ModuleSpace :=
  ModuleSpace.Pack R_Ring unit (ModuleSpace.Class R_Ring unit _ unit_ModuleSpace_mixin) unit.

Canonical unit_NormedModuleAux :=
  NormedModuleAux.Pack R_AbsRing unit
    (NormedModuleAux.Class R_AbsRing unit (ModuleSpace.class R_Ring unit_ModuleSpace)
       (UniformSpace.class unit_UniformSpace)) unit.

Lemma unit_norm_scal (c : R_AbsRing) (x : unit_NormedModuleAux) : 0 <= abs c * 0.
Proof. lra. Qed.
Lemma unit_norm_triangle : forall x y : unit_NormedModuleAux, 0 <= 0 + 0.
Proof. intros; lra. Qed.
Lemma unit_norm_compat2 : forall (x y : unit_NormedModuleAux) (eps : posreal), ball x eps y -> 0 < 1 * eps.
Proof. intros x y eps _. pose proof (cond_pos eps). lra. Qed.

Definition unit_NormedModule_mixin : NormedModule.mixin_of R_AbsRing unit_NormedModuleAux :=
  NormedModule.Mixin R_AbsRing unit_NormedModuleAux (fun _ => 0) 1 unit_norm_triangle unit_norm_scal
    (fun _ _ _ _ => Logic.I) unit_norm_compat2 (fun _ _ => unit_eq _ _).
Canonical unit_NormedModule :=
  NormedModule.Pack R_AbsRing unit (NormedModule.Class R_AbsRing unit _ unit_NormedModule_mixin) unit.

Definition pairing_unit : pairing unit_NormedModule.
Proof. refine (Pairing unit_NormedModule (fun _ _ => 0) _ _ _); intros; ring. Defined.

(** ** Trees of scalars *)
Inductive tree := nothing | scalar | both (a b : tree).

Fixpoint space (t : tree) : NormedModule R_AbsRing :=
  match t with
  | nothing => unit_NormedModule
  | scalar => R_NormedModule
  | both a b => prod_NormedModule R_AbsRing (space a) (space b)
  end.

Fixpoint dot (t : tree) : pairing (space t) :=
  match t with
  | nothing => pairing_unit
  | scalar => pairing_R
  | both a b => pairing_prod (dot a) (dot b)
  end.

(** The inner product is positive definite. *)
Lemma dot_nonneg t : forall v, 0 <= dot t v v.
Proof.
  induction t as [| |a IHa b IHb]; simpl; intros v; [lra|nra|].
  specialize (IHa (fst v)). specialize (IHb (snd v)). lra.
Qed.

Lemma dot_definite t : forall v, dot t v v = 0 -> v = zero.
Proof.
  induction t as [| |a IHa b IHb]; simpl; intros v H.
  - apply unit_eq.
  - apply Rsqr_0_uniq. exact H.
  - pose proof (dot_nonneg a (fst v)). pose proof (dot_nonneg b (snd v)).
    destruct v as [v1 v2]. simpl in *. unfold zero; simpl. unfold prod_zero.
    f_equal; [apply IHa|apply IHb]; lra.
Qed.

(** Sums and pointwise equal copies of bounded linear maps; then: the inner product is continuous. *)
Lemma is_linear_ext {U W : NormedModule R_AbsRing} (l1 l2 : U -> W) :
  (forall x, l1 x = l2 x) -> is_linear l1 -> is_linear l2.
Proof.
  intros H [Hp Hs [M [HM Hn]]]. split.
  - intros x y. rewrite <- !H. apply Hp.
  - intros k x. rewrite <- !H. apply Hs.
  - exists M. split; auto. intros x. rewrite <- H. apply Hn.
Qed.

Lemma is_linear_sum {U W : NormedModule R_AbsRing} (l1 l2 : U -> W) :
  is_linear l1 -> is_linear l2 -> is_linear (fun x => plus (l1 x) (l2 x)).
Proof.
  intros H1 H2.
  apply (is_linear_comp (fun x => (l1 x, l2 x)) (fun p : W * W => plus (fst p) (snd p))).
  - apply is_linear_prod; auto.
  - apply is_linear_plus.
Qed.

Lemma dot_linear t : forall g, is_linear (fun v => dot t g v).
Proof.
  induction t as [| |a IHa b IHb]; intros g.
  - simpl. apply (is_linear_zero (U := unit_NormedModule) (V := R_NormedModule)).
  - apply (is_linear_scal_r (K := R_AbsRing) (V := R_NormedModule) g). intros; apply Rmult_comm.
  - simpl. apply (is_linear_sum (U := prod_NormedModule R_AbsRing (space a) (space b)) (W := R_NormedModule)).
    + apply (is_linear_comp (fun v : space a * space b => fst v) (fun u => dot a (fst g) u)); auto.
      apply is_linear_fst.
    + apply (is_linear_comp (fun v : space a * space b => snd v) (fun u => dot b (snd g) u)); auto.
      apply is_linear_snd.
Qed.

(** ** Riesz: every linear functional is an inner product *)
Theorem riesz t : forall l : space t -> R, is_linear (V := R_NormedModule) l ->
  exists g, forall h, l h = dot t g h.
Proof.
  induction t as [| |a IHa b IHb]; intros l Hl.
  - exists tt. intros h. simpl. rewrite (unit_eq h (@zero unit_NormedModule)). apply (linear_zero l Hl).
  - exists (l 1). intros h. simpl. rewrite Rmult_comm.
    transitivity (l (scal (h : R) (1 : R_NormedModule))).
    + f_equal. unfold scal; simpl. unfold mult; simpl. symmetry. apply Rmult_1_r.
    + rewrite (linear_scal l Hl). reflexivity.
  - destruct (IHa (fun u => l (u, zero))) as [ga Ha].
    { apply (is_linear_comp (fun u : space a => (u, zero) : prod_NormedModule R_AbsRing (space a) (space b)) l); auto.
      apply is_linear_prod; [apply is_linear_id|apply is_linear_zero]. }
    destruct (IHb (fun u => l (zero, u))) as [gb Hb].
    { apply (is_linear_comp (fun u : space b => (zero, u) : prod_NormedModule R_AbsRing (space a) (space b)) l); auto.
      apply is_linear_prod; [apply is_linear_zero|apply is_linear_id]. }
    exists (ga, gb). intros [h1 h2]. simpl. rewrite <- Ha, <- Hb.
    rewrite <- (linear_plus l Hl). f_equal. unfold plus; simpl. unfold prod_plus; simpl.
    rewrite (plus_zero_r (G := space a)), (plus_zero_l (G := space b)). reflexivity.
Qed.

(** Hence a differentiable function on a tree of arrays has a gradient. *)
Corollary gradient_exists t (F : space t -> R) (x : space t) :
  ex_filterdiff (V := R_NormedModule) F (locally x) -> exists g, is_gradient (dot t) F x g.
Proof.
  intros [l Hl]. destruct (riesz t l (proj1 Hl)) as [g Hg]. exists g.
  unfold is_gradient. eapply filterdiff_ext_lin; [exact Hl|exact Hg].
Qed.

(** ** The gradient as a total function, entry by entry (what automatic differentiation computes where it is right) *)
Fixpoint grad (t : tree) : (space t -> R) -> space t -> space t :=
  match t return (space t -> R) -> space t -> space t with
  | nothing => fun _ _ => tt
  | scalar => fun F x => Derive F x
  | both a b => fun F x => (grad a (fun u => F (u, snd x)) (fst x), grad b (fun u => F (fst x, u)) (snd x))
  end.

Lemma gradient_is_grad t : forall (F : space t -> R) (x g : space t), is_gradient (dot t) F x g -> g = grad t F x.
Proof.
  induction t as [| |a IHa b IHb]; intros F x g H.
  - apply unit_eq.
  - symmetry. apply is_derive_unique. unfold is_gradient in H. unfold is_derive.
    eapply filterdiff_ext_lin; [exact H|]. intros y. simpl. unfold scal; simpl. unfold mult; simpl. ring.
  - destruct x as [x1 x2]. destruct g as [g1 g2]. simpl. f_equal.
    + apply IHa. unfold is_gradient. eapply filterdiff_ext_lin.
      * apply (filterdiff_comp' (V := prod_NormedModule R_AbsRing (space a) (space b)) (W := R_NormedModule)
          (fun u : space a => (u, x2)) F x1 (fun h => (h, zero)) (fun h => dot (both a b) (g1, g2) h)).
        -- apply (filterdiff_comp'_2 (fun z : space a => z) (fun _ : space a => x2)
             (fun u v => (u, v) : prod_NormedModule R_AbsRing (space a) (space b)) x1
             (fun h => h) (fun _ => zero) (fun u v => (u, v))).
           ++ apply filterdiff_id.
           ++ apply filterdiff_const.
           ++ eapply filterdiff_ext_lin; [eapply filterdiff_ext; [|apply filterdiff_id]|]; intros [u v]; reflexivity.
        -- exact H.
      * intros h. simpl. rewrite (ip_zero (dot b)). ring.
    + apply IHb. unfold is_gradient. eapply filterdiff_ext_lin.
      * apply (filterdiff_comp' (V := prod_NormedModule R_AbsRing (space a) (space b)) (W := R_NormedModule)
          (fun u : space b => (x1, u)) F x2 (fun h => (zero, h)) (fun h => dot (both a b) (g1, g2) h)).
        -- apply (filterdiff_comp'_2 (fun _ : space b => x1) (fun z : space b => z)
             (fun u v => (u, v) : prod_NormedModule R_AbsRing (space a) (space b)) x2
             (fun _ => zero) (fun h => h) (fun u v => (u, v))).
           ++ apply filterdiff_const.
           ++ apply filterdiff_id.
           ++ eapply filterdiff_ext_lin; [eapply filterdiff_ext; [|apply filterdiff_id]|]; intros [u v]; reflexivity.
        -- exact H.
      * intros h. simpl. rewrite (ip_zero (dot a)). ring.
Qed.

Theorem grad_correct t (F : space t -> R) (x : space t) :
  ex_filterdiff (V := R_NormedModule) F (locally x) -> is_gradient (dot t) F x (grad t F x).
Proof. intros H. destruct (gradient_exists t F x H) as [g Hg]. rewrite <- (gradient_is_grad t F x g Hg). exact Hg. Qed.

(** In particular the gradient is unique. *)
Corollary gradient_unique t (F : space t -> R) (x g1 g2 : space t) :
  is_gradient (dot t) F x g1 -> is_gradient (dot t) F x g2 -> g1 = g2.
Proof. intros H1 H2. rewrite (gradient_is_grad t F x g1 H1). symmetry. apply gradient_is_grad. exact H2. Qed.

(** ** Rows: vectors and matrices *)
Fixpoint row (n : nat) (t : tree) : tree := match n with O => nothing | S n => both t (row n t) end.
Definition vector (n : nat) : tree := row n scalar.
Definition matrix_of (m n : nat) : tree := row m (vector n).

Fixpoint entry {t : tree} (n : nat) : space (row n t) -> nat -> space t :=
  match n return space (row n t) -> nat -> space t with
  | O => fun _ _ => zero
  | S n => fun v i => match i with O => fst v | S i => entry n (snd v) i end
  end.

Fixpoint of_entries {t : tree} (n : nat) (u : nat -> space t) : space (row n t) :=
  match n return space (row n t) with
  | O => tt
  | S n => (u O, of_entries n (fun i => u (S i)))
  end.

Lemma is_linear_entry t n : forall i, is_linear (fun v : space (row n t) => entry n v i).
Proof.
  induction n as [|n IH]; intros i; simpl; [apply is_linear_zero|].
  destruct i as [|i]; [apply is_linear_fst|].
  apply (is_linear_comp (fun v : space t * space (row n t) => snd v) (fun u => entry n u i)); auto. apply is_linear_snd.
Qed.

Lemma entry_of_entries t n : forall (u : nat -> space t) i, (i < n)%nat -> entry n (of_entries n u) i = u i.
Proof.
  induction n as [|n IH]; intros u i Hi; [lia|]. destruct i as [|i]; simpl; [reflexivity|]. rewrite IH by lia. reflexivity.
Qed.

Lemma of_entries_ext t n : forall u v : nat -> space t, (forall i, (i < n)%nat -> u i = v i) ->
  of_entries n u = of_entries n v.
Proof.
  induction n as [|n IH]; intros u v H; simpl; [reflexivity|]. f_equal; [apply H; lia|]. apply IH. intros; apply H; lia.
Qed.

(** A linear functional is determined by its values on the basis vectors. *)
Definition basis (n i : nat) : space (vector n) := 
  of_entries (t := scalar) n (fun j => (if Nat.eqb i j then 1 else 0) : R).

Lemma linear_on_basis n : forall (l : space (vector n) -> R) (u : nat -> R),
  is_linear (V := R_NormedModule) l ->
  l (of_entries (t := scalar) n u) = rsum (seq 0 n) (fun i => l (basis n i) * u i).
Proof.
  induction n as [|n IH]; intros l u Hl.
  - simpl. apply (linear_zero l Hl).
  - set (l' := fun v : space (vector n) => l ((0 : R_NormedModule), v)).
    assert (Hl' : is_linear (V := R_NormedModule) l').
    { apply (is_linear_comp (fun v : space (vector n) =>
        ((zero : R_NormedModule), v) : prod_NormedModule R_AbsRing R_NormedModule (space (vector n))) l); auto.
      apply is_linear_prod; [apply is_linear_zero|apply is_linear_id]. }
    rewrite <- cons_seq. simpl rsum.
    assert (Hz : forall m, of_entries (t := scalar) m (fun _ => 0) = zero).
    { induction m as [|m IHm]; [reflexivity|]. simpl. rewrite IHm. reflexivity. }
    assert (Hsplit : l (of_entries (t := scalar) (S n) u) =
      l (basis (S n) 0) * u O + l' (of_entries (t := scalar) n (fun i => u (S i)))).
    { unfold l'. rewrite Rmult_comm. change (u O * l (basis (S n) 0)) with (scal (u O) (l (basis (S n) 0))).
      rewrite <- (linear_scal l Hl). change Rplus with (@plus R_AbelianGroup). rewrite <- (linear_plus l Hl).
      f_equal. unfold basis. simpl. rewrite Hz. unfold plus, scal; simpl. unfold prod_plus, prod_scal; simpl.
      f_equal.
      - unfold plus, scal; simpl. unfold mult; simpl. ring.
      - rewrite (scal_zero_r (V := space (vector n))), plus_zero_l. reflexivity. }
    rewrite Hsplit, (IH l' (fun i => u (S i)) Hl'). f_equal.
    rewrite <- seq_shift. clear.
    assert (Hmap : forall (k : list nat) (g : nat -> R), rsum (map S k) g = rsum k (fun i => g (S i))).
    { intros k g. induction k as [|b k IHk]; simpl; [reflexivity|]. rewrite IHk. reflexivity. }
    rewrite Hmap. reflexivity.
Qed.

(** A row of differentiable entries is differentiable. *)
Lemma is_derive_of_entries t n : forall (u : R -> nat -> space t) (du : nat -> space t) x,
  (forall i, (i < n)%nat -> is_derive (fun e => u e i) x (du i)) ->
  is_derive (fun e => of_entries n (u e)) x (of_entries n du).
Proof.
  induction n as [|n IH]; intros u du x H.
  - simpl. apply (is_derive_const (V := unit_NormedModule) tt).
  - simpl. unfold is_derive. eapply filterdiff_ext_lin.
    + apply (filterdiff_comp_2 (fun e : R => u e O) (fun e => of_entries n (fun i => u e (S i)))
        (fun (a : space t) (b : space (row n t)) => (a, b) : prod_NormedModule R_AbsRing (space t) (space (row n t)))
        (fun k : R => scal k (du O)) (fun k : R => scal k (of_entries n (fun i => du (S i)))) (fun a b => (a, b))).
      * apply (H O). lia.
      * apply (IH (fun e i => u e (S i)) (fun i => du (S i))). intros i Hi. apply (H (S i)). lia.
      * eapply filterdiff_ext_lin; [eapply filterdiff_ext; [|apply filterdiff_id]|]; intros [a b]; reflexivity.
    + intros k. reflexivity.
Qed.

Lemma filterdiff_of_entries {V : NormedModule R_AbsRing} t n :
  forall (u : V -> nat -> space t) (du : nat -> V -> space t) x,
  (forall i, (i < n)%nat -> filterdiff (fun e => u e i) (locally x) (du i)) ->
  filterdiff (fun e => of_entries n (u e)) (locally x) (fun h => of_entries n (fun i => du i h)).
Proof.
  induction n as [|n IH]; intros u du x H.
  - simpl. apply (filterdiff_const (V := unit_NormedModule) tt).
  - simpl.
    apply (filterdiff_comp'_2 (fun e : V => u e O) (fun e => of_entries n (fun i => u e (S i)))
        (fun (a : space t) (b : space (row n t)) => (a, b) : prod_NormedModule R_AbsRing (space t) (space (row n t)))
        x (du O) (fun h => of_entries n (fun i => du (S i) h)) (fun a b => (a, b))).
    + apply (H O). lia.
    + apply (IH (fun e i => u e (S i)) (fun i => du (S i))). intros i Hi. apply (H (S i)). lia.
    + eapply filterdiff_ext_lin; [eapply filterdiff_ext; [|apply filterdiff_id]|]; intros [a b]; reflexivity.
Qed.
