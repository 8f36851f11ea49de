(** * What the headline theorems say

    Every theorem of Axioms.v restated in full, and before them every definition that a statement rests on, so that a
    statement cannot be weakened, given another hypothesis or emptied by a changed definition without this file failing
    to compile. Nothing is proved here: each line gives the name of a theorem to the statement it must have. Who means
    to change a statement changes it here too, where the difference can be read. *)
From Coq Require Import Reals List.
From Coquelicot Require Import Coquelicot.
From Sublim Require Import Sums Derivatives InnerProduct Softmax Alignment CrossEntropy SquaredError Affine Filter
  MultiStep GradientSteps Vectors Losses Network Counterexamples Audit.
Import ListNotations.
Open Scope R_scope.

(** ** Definitions of Sums.v *)

Example rsum_is : @rsum =
  fun (A : Type) (l : list A) (f : A -> R) => fold_right (fun (i : A) (acc : R) => f i + acc) 0 l.
Proof. reflexivity. Qed.

Example vsum_is : @vsum =
  fun (A : Type) (V : NormedModule R_AbsRing) (l : list A) (f : A -> V) =>
fold_right (fun (i : A) (acc : V) => plus (f i) acc) zero l.
Proof. reflexivity. Qed.

(** ** Definitions of InnerProduct.v *)

Example pairing_is :
  forall (V : NormedModule R_AbsRing) (ip : V -> V -> R),
       (forall g u v : V, ip g (plus u v) = ip g u + ip g v) ->
       (forall (g : V) (c : R_AbsRing) (v : V), ip g (scal c v) = c * ip g v) ->
       (forall u v : V, ip u v = ip v u) -> pairing V.
Proof. exact @Pairing. Qed.

Example is_gradient_is : @is_gradient =
  fun (V : NormedModule R_AbsRing) (P : pairing V) (F : V -> R) (x g : V) =>
filterdiff F (locally x) (fun h : V => P g h).
Proof. reflexivity. Qed.

Example pairing_R_is :
  ip pairing_R = Rmult.
Proof. reflexivity. Qed.

Example pairing_prod_is :
  forall (U V : NormedModule R_AbsRing) (P : pairing U) (Q : pairing V),
  ip (pairing_prod P Q) = fun u v => P (fst u) (fst v) + Q (snd u) (snd v).
Proof. reflexivity. Qed.

(** ** Definitions of Softmax.v *)

Example partition_is : @partition =
  fun (I : Type) (idx : list I) (a z : I -> R) => rsum idx (fun i : I => a i * exp (z i)).
Proof. reflexivity. Qed.

Example softmax_is : @softmax =
  fun (I : Type) (idx : list I) (a z : I -> R) (i : I) => a i * exp (z i) / partition idx a z.
Proof. reflexivity. Qed.

Example log_partition_is : @log_partition =
  fun (I : Type) (idx : list I) (a z : I -> R) => ln (partition idx a z).
Proof. reflexivity. Qed.

Example mean_is : @mean =
  fun (I : Type) (idx : list I) (a z v : I -> R) => rsum idx (fun i : I => softmax idx a z i * v i).
Proof. reflexivity. Qed.

Example variance_is : @variance =
  fun (I : Type) (idx : list I) (a z v : I -> R) =>
rsum idx (fun i : I => softmax idx a z i * (v i - mean idx a z v) ^ 2).
Proof. reflexivity. Qed.

Example cross_entropy_is : @cross_entropy =
  fun (I : Type) (idx : list I) (a z y : I -> R) =>
rsum idx (fun i : I => softmax idx a y i * (log_partition idx a z - z i)).
Proof. reflexivity. Qed.

Example kl_is : @kl =
  fun (I : Type) (idx : list I) (a z y : I -> R) => cross_entropy idx a z y - cross_entropy idx a y y.
Proof. reflexivity. Qed.

(** ** Definitions of Alignment.v *)

Example teacher_logits_is : @teacher_logits =
  fun (V : NormedModule R_AbsRing) (X I : Type) (f : V -> X -> I -> R) (theta0 D : V) (x : X) (e : R) (i : I) =>
f (plus theta0 (scal e D)) x i.
Proof. reflexivity. Qed.

Example logit_tangent_is : @logit_tangent =
  fun (V : NormedModule R_AbsRing) (X I : Type) (P : pairing V) (J : X -> I -> V) (D : V) (x : X) (i : I) =>
P (J x i) D.
Proof. reflexivity. Qed.

Example student_update_is : @student_update =
  fun (V : NormedModule R_AbsRing) (X I : Type) (idx : list I) (data : list X) (w : X -> R)
  (J : X -> I -> V) (pull : X -> R -> I -> R) (e : R) =>
vsum data (fun x : X => vsum idx (fun i : I => scal (w x * pull x e i) (J x i))).
Proof. reflexivity. Qed.

Example alignment_is : @alignment =
  fun (V : NormedModule R_AbsRing) (X I : Type) (P : pairing V) (idx : list I) (data : list X)
  (w : X -> R) (J : X -> I -> V) (D : V) (pull : X -> R -> I -> R) (e : R) =>
P D (student_update idx data w J pull e).
Proof. reflexivity. Qed.

Example alignment_coefficient_is : @alignment_coefficient =
  fun (V : NormedModule R_AbsRing) (X I : Type) (P : pairing V) (idx : list I) (data : list X)
  (w : X -> R) (J : X -> I -> V) (D : V) (pull' : X -> I -> R) =>
rsum data (fun x : X => w x * rsum idx (fun i : I => pull' x i * logit_tangent P J D x i)).
Proof. reflexivity. Qed.

(** ** Definitions of CrossEntropy.v *)

Example pull_ce_is : @pull_ce =
  fun (V : NormedModule R_AbsRing) (X I : Type) (idx : list I) (a : X -> I -> R) (f : V -> X -> I -> R)
  (theta0 D : V) (x : X) (e : R) (i : I) =>
softmax idx (a x) (teacher_logits f theta0 D x e) i - softmax idx (a x) (f theta0 x) i.
Proof. reflexivity. Qed.

Example coefficient_ce_is : @coefficient_ce =
  fun (V : NormedModule R_AbsRing) (X I : Type) (P : pairing V) (idx : list I) (data : list X)
  (w : X -> R) (a : X -> I -> R) (f : V -> X -> I -> R) (theta0 : V) (J : X -> I -> V)
  (D : V) => rsum data (fun x : X => w x * variance idx (a x) (f theta0 x) (logit_tangent P J D x)).
Proof. reflexivity. Qed.

(** ** Definitions of SquaredError.v *)

Example squared_error_is : @squared_error =
  fun (X I : Type) (idx : list I) (q : X -> I -> R) (x : X) (z y : I -> R) =>
rsum idx (fun i : I => q x i * (z i - y i) ^ 2).
Proof. reflexivity. Qed.

Example pull_se_is : @pull_se =
  fun (V : NormedModule R_AbsRing) (X I : Type) (q : X -> I -> R) (f : V -> X -> I -> R)
  (theta0 D : V) (x : X) (e : R) (i : I) => 2 * q x i * (teacher_logits f theta0 D x e i - f theta0 x i).
Proof. reflexivity. Qed.

Example coefficient_se_is : @coefficient_se =
  fun (V : NormedModule R_AbsRing) (X I : Type) (P : pairing V) (idx : list I) (data : list X)
  (w : X -> R) (q : X -> I -> R) (J : X -> I -> V) (D : V) =>
rsum data (fun x : X => w x * rsum idx (fun i : I => 2 * q x i * logit_tangent P J D x i ^ 2)).
Proof. reflexivity. Qed.

(** ** Definitions of Filter.v *)

Example kept_is : @kept =
  fun (V : NormedModule R_AbsRing) (I : Type) (idx : list I) (accept : I -> R) (log_p : V -> I -> R)
  (theta0 D : V) (e : R) => softmax idx accept (log_p (plus theta0 (scal e D))).
Proof. reflexivity. Qed.

Example score_is : @score =
  fun (V : NormedModule R_AbsRing) (I : Type) (P : pairing V) (grad_log_p : I -> V) (D : V) (k : I) =>
P (grad_log_p k) D.
Proof. reflexivity. Qed.

Example filtered_update_is : @filtered_update =
  fun (V : NormedModule R_AbsRing) (I : Type) (idx : list I) (accept : I -> R) (log_p : V -> I -> R)
  (theta0 : V) (grad_log_p : I -> V) (D : V) (e : R) =>
vsum idx (fun k : I => scal (kept idx accept log_p theta0 D e k) (grad_log_p k)).
Proof. reflexivity. Qed.

Example filtered_alignment_is : @filtered_alignment =
  fun (V : NormedModule R_AbsRing) (I : Type) (P : pairing V) (idx : list I) (accept : I -> R)
  (log_p : V -> I -> R) (theta0 : V) (grad_log_p : I -> V) (D : V) (e : R) =>
P D (filtered_update idx accept log_p theta0 grad_log_p D e).
Proof. reflexivity. Qed.

Example retained_variance_is : @retained_variance =
  fun (V : NormedModule R_AbsRing) (I : Type) (P : pairing V) (idx : list I) (accept : I -> R)
  (log_p : V -> I -> R) (theta0 : V) (grad_log_p : I -> V) (D : V) =>
variance idx accept (log_p theta0) (score P grad_log_p D).
Proof. reflexivity. Qed.

(** ** Definitions of MultiStep.v *)

Example gram_is : @gram =
  fun (V : NormedModule R_AbsRing) (P : pairing V) (G : V -> V) (L : R) =>
(forall u v : V, P (G u) v = P u (G v)) /\ (forall u : V, 0 <= P (G u) u) /\ (forall u : V, P (G u) u <= L * P u u).
Proof. reflexivity. Qed.

Example admissible_is : @admissible =
  fun (V : NormedModule R_AbsRing) (P : pairing V) (s : R * (V -> V)) =>
0 <= fst s /\ (exists L : R, gram P (snd s) L /\ fst s * L <= 2).
Proof. reflexivity. Qed.

Example residual_is : @residual =
  fun V : NormedModule R_AbsRing =>
fix residual (steps : list (R * (V -> V))) (w : V) {struct steps} : V :=
  match steps with
  | [] => w
  | (alpha, G) :: rest => residual rest (minus w (scal alpha (G w)))
  end.
Proof. reflexivity. Qed.

Example iterate_is : @iterate =
  fun (V : NormedModule R_AbsRing) (alpha : R) (G : V -> V) (t : nat) (D : V) => residual (repeat (alpha, G) t) D.
Proof. reflexivity. Qed.

Example training_step_is :
  forall (V : NormedModule R_AbsRing) (theta0 D : V) (Phi : V -> R -> V) (rate : R) (G_of : V -> V),
       is_linear G_of ->
       Phi theta0 0 = theta0 ->
       filterdiff (fun p : prod_NormedModule R_AbsRing V R_NormedModule => Phi (fst p) (snd p))
         (locally (theta0, 0))
         (fun h : prod_NormedModule R_AbsRing V R_NormedModule =>
          plus (minus (fst h) (scal rate (G_of (fst h)))) (scal (snd h) (scal rate (G_of D)))) ->
       training_step theta0 D.
Proof. exact @TrainingStep. Qed.

Example schedule_is : @schedule =
  fun (V : NormedModule R_AbsRing) (theta0 D : V) (steps : list (training_step theta0 D)) =>
map (fun s : training_step theta0 D => (rate theta0 D s, G_of theta0 D s)) steps.
Proof. reflexivity. Qed.

Example trajectory_is : @trajectory =
  fun (V : NormedModule R_AbsRing) (theta0 D : V) =>
fix trajectory (steps : list (training_step theta0 D)) (theta : V) (e : R) {struct steps} : V :=
  match steps with
  | [] => theta
  | s :: rest => trajectory rest (Phi theta0 D s theta e) e
  end.
Proof. reflexivity. Qed.

(** ** Definitions of GradientSteps.v *)

Example descent_is : @descent =
  fun (V : NormedModule R_AbsRing) (X I : Type) (idx : list I) (data : list X) (w : X -> R)
  (J : V -> X -> I -> V) (force : X -> V -> R -> I -> R) (alpha : R) (theta : V) (e : R) =>
plus theta
  (scal alpha (vsum data (fun x : X => vsum idx (fun i : I => scal (w x * force x theta e i) (J theta x i))))).
Proof. reflexivity. Qed.

Example gauss_newton_is : @gauss_newton =
  fun (V : NormedModule R_AbsRing) (X I : Type) (P : pairing V) (idx : list I) (data : list X)
  (w : X -> R) (theta0 : V) (J : V -> X -> I -> V) (M : X -> (I -> R) -> I -> R) (u : V) =>
vsum data
  (fun x : X => vsum idx (fun i : I => scal (w x * M x (fun j : I => P (J theta0 x j) u) i) (J theta0 x i))).
Proof. reflexivity. Qed.

Example batch_is :
  forall (V : NormedModule R_AbsRing) (X I : Type) (P : pairing V) (idx : list I)
         (theta0 : V) (J : V -> X -> I -> V) (M : X -> (I -> R) -> I -> R) (inputs : list X)
         (weight : X -> R),
       (forall x : X, 0 <= weight x) ->
       forall learning_rate : R,
       0 <= learning_rate ->
       forall lambda_max : R,
       (forall u : V, P (gauss_newton P idx inputs weight theta0 J M u) u <= lambda_max * P u u) ->
       learning_rate * lambda_max <= 2 -> batch P idx theta0 J M.
Proof. exact @Batch. Qed.

Example train_is : @train =
  fun (V : NormedModule R_AbsRing) (X I : Type) (P : pairing V) (idx : list I) (theta0 : V)
  (J : V -> X -> I -> V) (force : X -> V -> R -> I -> R) (M : X -> (I -> R) -> I -> R) =>
fix train (bs : list (batch P idx theta0 J M)) (theta : V) (e : R) {struct bs} : V :=
  match bs with
  | [] => theta
  | b :: rest =>
      train rest
        (descent idx (inputs P idx theta0 J M b) (weight P idx theta0 J M b) J force
           (learning_rate P idx theta0 J M b) theta e) e
  end.
Proof. reflexivity. Qed.

Example distance_left_is : @distance_left =
  fun (V : NormedModule R_AbsRing) (X I : Type) (P : pairing V) (idx : list I) (theta0 : V)
  (J : V -> X -> I -> V) (M : X -> (I -> R) -> I -> R) =>
fix distance_left (bs : list (batch P idx theta0 J M)) (v : V) {struct bs} : V :=
  match bs with
  | [] => v
  | b :: rest =>
      distance_left rest
        (minus v
           (scal (learning_rate P idx theta0 J M b)
              (gauss_newton P idx (inputs P idx theta0 J M b) (weight P idx theta0 J M b) theta0 J M v)))
  end.
Proof. reflexivity. Qed.

Example force_ce_is : @force_ce =
  fun (V : NormedModule R_AbsRing) (X I : Type) (idx : list I) (f : V -> X -> I -> R) (theta0 D : V)
  (a : X -> I -> R) (x : X) (theta : V) (e : R) (i : I) =>
softmax idx (a x) (f (plus theta0 (scal e D)) x) i - softmax idx (a x) (f theta x) i.
Proof. reflexivity. Qed.

Example M_ce_is : @M_ce =
  fun (V : NormedModule R_AbsRing) (X I : Type) (idx : list I) (f : V -> X -> I -> R) (theta0 : V)
  (a : X -> I -> R) (x : X) (u : I -> R) (i : I) =>
softmax idx (a x) (f theta0 x) i * (u i - mean idx (a x) (f theta0 x) u).
Proof. reflexivity. Qed.

Example force_se_is : @force_se =
  fun (V : NormedModule R_AbsRing) (X I : Type) (f : V -> X -> I -> R) (theta0 D : V) (q : X -> I -> R)
  (x : X) (theta : V) (e : R) (i : I) => 2 * q x i * (f (plus theta0 (scal e D)) x i - f theta x i).
Proof. reflexivity. Qed.

Example M_se_is : @M_se =
  fun (X I : Type) (q : X -> I -> R) (x : X) (u : I -> R) (i : I) => 2 * q x i * u i.
Proof. reflexivity. Qed.

(** ** Definitions of Vectors.v *)

Example pairing_unit_is :
  ip pairing_unit = fun _ _ => 0.
Proof. reflexivity. Qed.

Example space_is : @space =
  fix space (t : tree) : NormedModule R_AbsRing :=
  match t with
  | nothing => unit_NormedModule
  | scalar => R_NormedModule
  | both a b => prod_NormedModule R_AbsRing (space a) (space b)
  end.
Proof. reflexivity. Qed.

Example dot_is : @dot =
  fix dot (t : tree) : pairing (space t) :=
  match t as t0 return (pairing (space t0)) with
  | nothing => pairing_unit
  | scalar => pairing_R
  | both a b => pairing_prod (dot a) (dot b)
  end.
Proof. reflexivity. Qed.

Example grad_is : @grad =
  fix grad (t : tree) : (space t -> R) -> space t -> space t :=
  match t as t0 return ((space t0 -> R) -> space t0 -> space t0) with
  | nothing => fun (_ : space nothing -> R) (_ : space nothing) => tt
  | scalar => fun (F : space scalar -> R) (x : space scalar) => Derive F x
  | both a b =>
      fun (F : space (both a b) -> R) (x : space (both a b)) =>
      (grad a (fun u : space a => F (u, snd x)) (fst x), grad b (fun u : space b => F (fst x, u)) (snd x))
  end.
Proof. reflexivity. Qed.

Example row_is : @row =
  fix row (n : nat) (t : tree) {struct n} : tree := match n with
                                                  | 0%nat => nothing
                                                  | S n0 => both t (row n0 t)
                                                  end.
Proof. reflexivity. Qed.

Example vector_is : @vector =
  fun n : nat => row n scalar.
Proof. reflexivity. Qed.

Example matrix_of_is : @matrix_of =
  fun m n : nat => row m (vector n).
Proof. reflexivity. Qed.

Example entry_is : @entry =
  fix entry (t : tree) (n : nat) {struct n} : space (row n t) -> nat -> space t :=
  match n as n0 return (space (row n0 t) -> nat -> space t) with
  | 0%nat => fun (_ : space (row 0 t)) (_ : nat) => zero
  | S n0 =>
      fun (v : space (row (S n0) t)) (i : nat) => match i with
                                                  | 0%nat => fst v
                                                  | S i0 => entry t n0 (snd v) i0
                                                  end
  end.
Proof. reflexivity. Qed.

Example of_entries_is : @of_entries =
  fix of_entries (t : tree) (n : nat) (u : nat -> space t) {struct n} : space (row n t) :=
  match n as n0 return (space (row n0 t)) with
  | 0%nat => tt
  | S n0 => (u 0%nat, of_entries t n0 (fun i : nat => u (S i)))
  end.
Proof. reflexivity. Qed.

Example basis_is : @basis =
  fun n i : nat =>
@of_entries scalar n
  (fun j : nat => match Nat.eqb i j return R with
                  | true => IZR (Zpos xH)
                  | false => IZR Z0
                  end : R).
Proof. reflexivity. Qed.

(** ** Definitions of Losses.v *)

Example hessian_is : @hessian =
  fun (E : NormedModule R_AbsRing) (L : E -> prod_NormedModule R_AbsRing E E -> R) (u h : E) => L u (h, zero).
Proof. reflexivity. Qed.

Example mixed_is : @mixed =
  fun (E : NormedModule R_AbsRing) (L : E -> prod_NormedModule R_AbsRing E E -> R) (u k : E) => L u (zero, k).
Proof. reflexivity. Qed.

Example reference_logits_is : @reference_logits =
  fun (V : NormedModule.type R_AbsRing) (X : Type) (n : nat)
  (f : forall (_ : NormedModule.sort R_AbsRing V) (_ : X) (_ : nat), R) (theta0 : NormedModule.sort R_AbsRing V) =>
let E : NormedModule.type R_AbsRing := space (vector n) in fun x : X => @of_entries scalar n (f theta0 x).
Proof. reflexivity. Qed.

Example teacher_vector_is : @teacher_vector =
  fun (V : NormedModule.type R_AbsRing) (X : Type) (n : nat)
  (f : forall (_ : NormedModule.sort R_AbsRing V) (_ : X) (_ : nat), R) (theta0 D : NormedModule.sort R_AbsRing V)
=>
let E : NormedModule.type R_AbsRing := space (vector n) in
fun (x : X) (e : R) => @of_entries scalar n (@teacher_logits V X nat f theta0 D x e).
Proof. reflexivity. Qed.

Example tangent_vector_is : @tangent_vector =
  fun (V : NormedModule.type R_AbsRing) (X : Type) (P : pairing V) (n : nat)
  (J : forall (_ : X) (_ : nat), NormedModule.sort R_AbsRing V) (D : NormedModule.sort R_AbsRing V) =>
let E : NormedModule.type R_AbsRing := space (vector n) in
fun x : X => @of_entries scalar n (@logit_tangent V X nat P J D x).
Proof. reflexivity. Qed.

Example pull_min_is : @pull_min =
  fun (V : NormedModule R_AbsRing) (X : Type) (n : nat) (f : V -> X -> nat -> R) (theta0 D : V) =>
let E := space (vector n) in
fun (g : X -> E -> E -> E -> R) (x : X) (e : R) (i : nat) =>
- g x (reference_logits n f theta0 x) (teacher_vector n f theta0 D x e) (basis n i).
Proof. reflexivity. Qed.

(** ** Definitions of Network.v *)

Example layer_tree_is : @layer_tree =
  fun m d : nat => both (matrix_of m d) (vector m).
Proof. reflexivity. Qed.

Example mlp_tree_is : @mlp_tree =
  fix mlp_tree (d : nat) (hidden : list nat) (k : nat) {struct hidden} : tree :=
  match hidden with
  | [] => layer_tree k d
  | m :: rest => both (layer_tree m d) (mlp_tree m rest k)
  end.
Proof. reflexivity. Qed.

Example affine_is : @affine =
  fun (m d : nat) (layer : space (layer_tree m d)) (u : nat -> R) (i : nat) =>
rsum (seq 0 d) (fun j : nat => entry d (entry m (fst layer) i) j * u j) + entry m (snd layer) i.
Proof. reflexivity. Qed.

Example mlp_is : @mlp =
  fix mlp (act : R -> R) (d : nat) (hidden : list nat) (k : nat) {struct hidden} :
    space (mlp_tree d hidden k) -> (nat -> R) -> nat -> R :=
  match hidden as hidden0 return (space (mlp_tree d hidden0 k) -> (nat -> R) -> nat -> R) with
  | [] => fun (theta : space (mlp_tree d [] k)) (x : nat -> R) => affine k d theta x
  | m :: rest =>
      fun (theta : space (mlp_tree d (m :: rest) k)) (x : nat -> R) =>
      mlp act m rest k (snd theta) (fun i : nat => act (affine m d (fst theta) x i))
  end.
Proof. reflexivity. Qed.

Example smooth_on_is : @smooth_on =
  fix smooth_on (act : R -> R) (d : nat) (hidden : list nat) (k : nat) {struct hidden} :
    space (mlp_tree d hidden k) -> (nat -> R) -> Prop :=
  match hidden as hidden0 return (space (mlp_tree d hidden0 k) -> (nat -> R) -> Prop) with
  | [] => fun (_ : space (mlp_tree d [] k)) (_ : nat -> R) => True
  | m :: rest =>
      fun (theta : space (mlp_tree d (m :: rest) k)) (x : nat -> R) =>
      (forall i : nat, (i < m)%nat -> ex_derive act (affine m d (fst theta) x i)) /\
      smooth_on act m rest k (snd theta) (fun i : nat => act (affine m d (fst theta) x i))
  end.
Proof. reflexivity. Qed.

Example expected_kl_is : @expected_kl =
  fun (act : R -> R) (d k : nat) (hidden : list nat) =>
let T := mlp_tree d hidden k in
let net := mlp act d hidden k in
fun (distilled : list nat) (data : list (nat -> R)) (w : (nat -> R) -> R) (theta0 D : space T)
  (e : R) (theta : space T) =>
rsum data
  (fun x : nat -> R => w x * kl distilled (fun _ : nat => 1) (net theta x) (net (plus theta0 (scal e D)) x)).
Proof. reflexivity. Qed.

Example expected_squared_error_is : @expected_squared_error =
  fun (act : R -> R) (d k : nat) (hidden : list nat) =>
let T := mlp_tree d hidden k in
let net := mlp act d hidden k in
fun (distilled : list nat) (data : list (nat -> R)) (w : (nat -> R) -> R) (theta0 D : space T)
  (e : R) (theta : space T) =>
rsum data
  (fun x : nat -> R => w x * rsum distilled (fun i : nat => (net theta x i - net (plus theta0 (scal e D)) x i) ^ 2)).
Proof. reflexivity. Qed.

Example relu_is : @relu =
  fun x : R => Rmax 0 x.
Proof. reflexivity. Qed.

Example two_layer_is : @two_layer =
  fun (d m k : nat) (theta : space (mlp_tree d [m] k)) (x : nat -> R) (i : nat) =>
let
'(W1, b1, (W2, b2)) := theta in
 rsum (seq 0 m)
   (fun h : nat =>
    entry m (entry k W2 i) h * tanh (rsum (seq 0 d) (fun j : nat => entry d (entry m W1 h) j * x j) + entry m b1 h)) +
 entry k b2 i.
Proof. reflexivity. Qed.

(** ** Definitions of Counterexamples.v *)

Example kink_f_is : @kink_f =
  fun (th : R2) (_ _ : unit) => fst th + 2 * relu (snd th).
Proof. reflexivity. Qed.

Example kink_J_is : @kink_J =
  fun _ _ : unit => (1, 2 * 0).
Proof. reflexivity. Qed.

Example kink_D_is : @kink_D =
  (-1, 1).
Proof. reflexivity. Qed.

Example kink_LT_is : @kink_LT =
  fun th : R2 => fst th - snd th.
Proof. reflexivity. Qed.

Example kink_update_is : @kink_update =
  fun e : R =>
student_update [tt] [tt] (fun _ : unit => 1) kink_J (pull_se (fun _ _ : unit => 1) kink_f zero kink_D) e.
Proof. reflexivity. Qed.

Example sign_f_is : @sign_f =
  fun (th : R3) (_ _ : unit) => 10 * fst th + fst (snd th) + snd (snd th).
Proof. reflexivity. Qed.

Example sign_J_is : @sign_J =
  fun _ _ : unit => (10, (1, 1)).
Proof. reflexivity. Qed.

Example sign_D_is : @sign_D =
  (1, (-3, -3)).
Proof. reflexivity. Qed.

Example signs_is : @signs =
  fun v : R3 => (sign (fst v), (sign (fst (snd v)), sign (snd (snd v)))).
Proof. reflexivity. Qed.

Example frozen_f_is : @frozen_f =
  fun (th : R2) (_ _ : unit) => fst th + snd th.
Proof. reflexivity. Qed.

Example frozen_J_is : @frozen_J =
  fun _ _ : unit => (1, 1).
Proof. reflexivity. Qed.

Example frozen_D_is : @frozen_D =
  (1, -3).
Proof. reflexivity. Qed.

Example warm_f_is : @warm_f =
  fun (t : R) (_ : unit) (i : bool) => if i then ln 9 + t else 0.
Proof. reflexivity. Qed.

Example warm_pull_is : @warm_pull =
  fun (_ : unit) (e : R) (i : bool) =>
softmax [true; false] (fun _ : bool => 1) (fun j : bool => warm_f e tt j / 2) i -
softmax [true; false] (fun _ : bool => 1) (warm_f 0 tt) i.
Proof. reflexivity. Qed.

Example null_loss_is : @null_loss =
  fun z y : bool -> R => (y true * (z true - y true) + (z false - y false)) ^ 2 / 2.
Proof. reflexivity. Qed.

Example null_f_is : @null_f =
  fun (t : R) (_ : unit) (i : bool) => if i then t else -2 * t ^ 2.
Proof. reflexivity. Qed.

Example null_J_is : @null_J =
  fun (_ : unit) (i : bool) => if i then 1 else 0.
Proof. reflexivity. Qed.

Example null_pull_is : @null_pull =
  fun (_ : unit) (e : R) (i : bool) =>
let z := null_f 0 tt in
let y := null_f e tt in - (y true * (z true - y true) + (z false - y false)) * (if i then y true else 1).
Proof. reflexivity. Qed.

Example batch1_is : @batch1 =
  fun v : R2 => (/ 2 * (fst v + snd v), / 2 * (fst v + snd v)).
Proof. reflexivity. Qed.

Example batch2_is : @batch2 =
  fun v : R2 => (fst v + 2 * snd v, 2 * (fst v + 2 * snd v)).
Proof. reflexivity. Qed.

Example batch_D_is : @batch_D =
  (1, 0).
Proof. reflexivity. Qed.

Example flip_log_p_is : @flip_log_p =
  fun (th : R3) (k : nat) =>
let z := fun i : nat => match i with
                        | 0%nat => fst th
                        | 1%nat => fst (snd th)
                        | S (S _) => snd (snd th)
                        end in
z k - log_partition [0%nat; 1%nat; 2%nat] (fun _ : nat => 1) z.
Proof. reflexivity. Qed.

Example flip_grad_is : @flip_grad =
  fun k : nat =>
match k with
| 0%nat => (2 / 3, (-1 / 3, -1 / 3))
| 1%nat => (-1 / 3, (2 / 3, -1 / 3))
| S (S _) => (-1 / 3, (-1 / 3, 2 / 3))
end.
Proof. reflexivity. Qed.

Example flip_accept_is : @flip_accept =
  fun k : nat => match k with
                             | 0%nat => 0
                             | S _ => 1
                             end.
Proof. reflexivity. Qed.

Example bump_is : @bump =
  fun u : R => 2 * u ^ 2 / (1 + u ^ 2).
Proof. reflexivity. Qed.

Example spike_f_is : @spike_f =
  fun (t : R) (n : nat) => t - 3 * bump (2 ^ S n * t).
Proof. reflexivity. Qed.

Example spike_weight_is : @spike_weight =
  fun n : nat => (/ 2) ^ S n.
Proof. reflexivity. Qed.

Example spike_alignment_is : @spike_alignment =
  fun (e : R) (n : nat) => 2 * (spike_f e n - spike_f 0 n).
Proof. reflexivity. Qed.

(** ** Definitions of Audit.v *)

Example project_is : @project =
  fun (V : NormedModule R_AbsRing) (P : pairing V) (s : R) (g u : V) =>
minus u (scal (s * (Rmin (P u g) 0 / P g g)) g).
Proof. reflexivity. Qed.

Example remove_is : @remove =
  fun (V : NormedModule R_AbsRing) (P : pairing V) (dose : R) (g d : V) => minus d (scal (dose * (P d g / P g g)) g).
Proof. reflexivity. Qed.

Example additive_is : @additive =
  fun (V : ModuleSpace R_AbsRing) (G : V -> V) => forall u v : V, G (plus u v) = plus (G u) (G v).
Proof. reflexivity. Qed.

Example displacement_is : @displacement =
  fun V : ModuleSpace R_AbsRing =>
fix displacement (steps : list (R * (V -> V))) (targets : list V) {struct steps} : V :=
  match steps with
  | [] => zero
  | (alpha, G) :: steps' =>
      match targets with
      | [] => zero
      | b :: targets' => let d := displacement steps' targets' in plus d (scal alpha (minus b (G d)))
      end
  end.
Proof. reflexivity. Qed.

Example sum_targets_is : @sum_targets =
  fun V : ModuleSpace R_AbsRing =>
fix sum_targets (a b : list V) {struct a} : list V :=
  match a with
  | [] => []
  | x :: a' => match b with
               | [] => []
               | y :: b' => plus x y :: sum_targets a' b'
               end
  end.
Proof. reflexivity. Qed.

Example flat_is : flat = fun p : R => - (p * p).
Proof. reflexivity. Qed.

(** ** Theorems of Softmax.v *)

Example quadratic_form_is_variance_says :
  forall (I : Type) (idx : list I) (a : I -> R),
       (forall i : I, In i idx -> 0 <= a i) ->
       (exists i : I, In i idx /\ 0 < a i) ->
       forall z v : I -> R,
       rsum idx (fun i : I => softmax idx a z i * (v i - mean idx a z v) * v i) = variance idx a z v.
Proof. exact @quadratic_form_is_variance. Qed.

Example null_space_orthogonal_says :
  forall (I : Type) (idx : list I) (a : I -> R),
       (forall i : I, In i idx -> 0 <= a i) ->
       (exists i : I, In i idx /\ 0 < a i) ->
       forall z v y : I -> R,
       variance idx a z v = 0 -> rsum idx (fun i : I => (softmax idx a y i - softmax idx a z i) * v i) = 0.
Proof. exact @null_space_orthogonal. Qed.

Example softmax_one_logit_says :
  forall (I : Type) (i : I) (z : I -> R), softmax [i] (fun _ : I => 1) z i = 1.
Proof. exact @softmax_one_logit. Qed.

Example softmax_shift_says :
  forall (I : Type) (idx : list I) (a : I -> R),
       (forall i : I, In i idx -> 0 <= a i) ->
       (exists i : I, In i idx /\ 0 < a i) ->
       forall (z : I -> R) (k : R) (i : I), softmax idx a (fun j : I => z j + k) i = softmax idx a z i.
Proof. exact @softmax_shift. Qed.

(** ** Theorems of Alignment.v *)

Example alignment_formula_says :
  forall (V : NormedModule R_AbsRing) (X I : Type) (P : pairing V) (idx : list I)
         (data : list X) (w : X -> R) (J : X -> I -> V) (D : V) (pull : X -> R -> I -> R)
         (e : R),
       alignment P idx data w J D pull e =
       rsum data (fun x : X => w x * rsum idx (fun i : I => pull x e i * logit_tangent P J D x i)).
Proof. exact @alignment_formula. Qed.

Example alignment_derivative_says :
  forall (V : NormedModule R_AbsRing) (X I : Type) (P : pairing V) (idx : list I)
         (data : list X) (w : X -> R) (J : X -> I -> V) (D : V) (pull : X -> R -> I -> R)
         (pull' : X -> I -> R),
       (forall (x : X) (i : I), In x data -> In i idx -> is_derive (fun e : R_AbsRing => pull x e i) 0 (pull' x i)) ->
       is_derive (alignment P idx data w J D pull) 0 (alignment_coefficient P idx data w J D pull').
Proof. exact @alignment_derivative. Qed.

Example alignment_vanishes_says :
  forall (V : NormedModule R_AbsRing) (X I : Type) (P : pairing V) (idx : list I) (data : list X) (w : X -> R),
       (forall x : X, In x data -> 0 <= w x) ->
       forall (J : X -> I -> V) (D : V) (pull : X -> R -> I -> R) (pull' : X -> I -> R),
       (forall x : X, In x data -> 0 <= rsum idx (fun i : I => pull' x i * logit_tangent P J D x i)) ->
       (forall x : X,
        In x data ->
        rsum idx (fun i : I => pull' x i * logit_tangent P J D x i) = 0 ->
        forall e : R, rsum idx (fun i : I => pull x e i * logit_tangent P J D x i) = 0) ->
       alignment_coefficient P idx data w J D pull' = 0 -> forall e : R, alignment P idx data w J D pull e = 0.
Proof. exact @alignment_vanishes. Qed.

Example lemma1_says :
  forall (V : NormedModule R_AbsRing) (X I : Type) (P : pairing V) (idx : list I) (data : list X) (w : X -> R),
       (forall x : X, In x data -> 0 <= w x) ->
       forall (J : X -> I -> V) (D : V) (pull : X -> R -> I -> R) (pull' : X -> I -> R),
       (forall (x : X) (i : I), In x data -> In i idx -> pull x 0 i = 0) ->
       (forall (x : X) (i : I), In x data -> In i idx -> is_derive (fun e : R_AbsRing => pull x e i) 0 (pull' x i)) ->
       (forall x : X, In x data -> 0 <= rsum idx (fun i : I => pull' x i * logit_tangent P J D x i)) ->
       (forall x : X,
        In x data ->
        rsum idx (fun i : I => pull' x i * logit_tangent P J D x i) = 0 ->
        forall e : R, rsum idx (fun i : I => pull x e i * logit_tangent P J D x i) = 0) ->
       exists e0 : R, 0 < e0 /\ (forall e : R, 0 < e < e0 -> 0 <= alignment P idx data w J D pull e).
Proof. exact @lemma1. Qed.

Example lemma1_sharp_says :
  forall (V : NormedModule R_AbsRing) (X I : Type) (P : pairing V) (idx : list I) (data : list X) (w : X -> R),
       (forall x : X, In x data -> 0 <= w x) ->
       forall (J : X -> I -> V) (D : V) (pull : X -> R -> I -> R) (pull' : X -> I -> R),
       (forall (x : X) (i : I), In x data -> In i idx -> pull x 0 i = 0) ->
       (forall (x : X) (i : I), In x data -> In i idx -> is_derive (fun e : R_AbsRing => pull x e i) 0 (pull' x i)) ->
       (forall x : X, In x data -> 0 <= rsum idx (fun i : I => pull' x i * logit_tangent P J D x i)) ->
       (forall x : X,
        In x data ->
        rsum idx (fun i : I => pull' x i * logit_tangent P J D x i) = 0 ->
        forall e : R, rsum idx (fun i : I => pull x e i * logit_tangent P J D x i) = 0) ->
       (forall e : R, alignment P idx data w J D pull e = 0) \/
       (exists e0 : R, 0 < e0 /\ (forall e : R, 0 < e < e0 -> 0 < alignment P idx data w J D pull e)).
Proof. exact @lemma1_sharp. Qed.

Example theorem1_says :
  forall (V : NormedModule R_AbsRing) (X I : Type) (P : pairing V) (idx : list I) (data : list X) (w : X -> R),
       (forall x : X, In x data -> 0 <= w x) ->
       forall (theta0 : V) (J : X -> I -> V) (D : V) (pull : X -> R -> I -> R) (pull' : X -> I -> R),
       (forall (x : X) (i : I), In x data -> In i idx -> pull x 0 i = 0) ->
       (forall (x : X) (i : I), In x data -> In i idx -> is_derive (fun e : R_AbsRing => pull x e i) 0 (pull' x i)) ->
       (forall x : X, In x data -> 0 <= rsum idx (fun i : I => pull' x i * logit_tangent P J D x i)) ->
       (forall x : X,
        In x data ->
        rsum idx (fun i : I => pull' x i * logit_tangent P J D x i) = 0 ->
        forall e : R, rsum idx (fun i : I => pull x e i * logit_tangent P J D x i) = 0) ->
       forall (LT : V -> R) (alpha : R),
       is_gradient P LT theta0 (opp D) ->
       0 < alpha ->
       (forall e : R, alignment P idx data w J D pull e = 0) \/
       (exists e0 : R,
          0 < e0 /\
          (forall e : R,
           0 < e < e0 ->
           0 < alignment P idx data w J D pull e /\
           LT (plus theta0 (scal alpha (student_update idx data w J pull e))) < LT theta0)).
Proof. exact @theorem1. Qed.

Example theorem1_preconditioned_says :
  forall (V : NormedModule R_AbsRing) (X I : Type) (P : pairing V) (idx : list I) (data : list X) (w : X -> R),
       (forall x : X, In x data -> 0 <= w x) ->
       forall (theta0 : V) (J : X -> I -> V) (D : V) (pull : X -> R -> I -> R) (pull' : X -> I -> R),
       (forall (x : X) (i : I), In x data -> In i idx -> pull x 0 i = 0) ->
       (forall (x : X) (i : I), In x data -> In i idx -> is_derive (fun e : R_AbsRing => pull x e i) 0 (pull' x i)) ->
       (forall x : X, In x data -> 0 <= rsum idx (fun i : I => pull' x i * logit_tangent P J D x i)) ->
       (forall x : X,
        In x data ->
        rsum idx (fun i : I => pull' x i * logit_tangent P J D x i) = 0 ->
        forall e : R, rsum idx (fun i : I => pull x e i * logit_tangent P J D x i) = 0) ->
       forall (B : V -> V) (g : V) (LT : V -> R) (alpha : R),
       is_linear B ->
       (forall u v : V, P u (B v) = P (B u) v) ->
       D = B g ->
       is_gradient P LT theta0 (opp g) ->
       0 < alpha ->
       (forall e : R, alignment P idx data w J D pull e = 0) \/
       (exists e0 : R,
          0 < e0 /\
          (forall e : R,
           0 < e < e0 ->
           0 < alignment P idx data w J D pull e /\
           LT (plus theta0 (scal alpha (B (student_update idx data w J pull e)))) < LT theta0)).
Proof. exact @theorem1_preconditioned. Qed.

Example orthogonal_transmits_nothing_says :
  forall (V : NormedModule R_AbsRing) (X I : Type) (P : pairing V) (idx : list I)
         (data : list X) (w : X -> R) (J : X -> I -> V) (D : V) (pull : X -> R -> I -> R),
       (forall (x : X) (i : I), In x data -> In i idx -> P (J x i) D = 0) ->
       forall e : R, alignment P idx data w J D pull e = 0.
Proof. exact @orthogonal_transmits_nothing. Qed.

Example class_block_never_moves_says :
  forall (U W : NormedModule R_AbsRing) (X I : Type) (idx : list I) (data : list X)
         (w : X -> R) (J : X -> I -> prod_NormedModule R_AbsRing U W) (pull : X -> R -> I -> R),
       (forall (x : X) (i : I), fst (J x i) = zero) ->
       forall e : R, fst (student_update idx data w J pull e) = zero.
Proof. exact @class_block_never_moves. Qed.

(** ** Theorems of CrossEntropy.v *)

Example cross_entropy_update_is_negative_gradient_says :
  forall (V : NormedModule R_AbsRing) (X I : Type) (P : pairing V) (idx : list I)
         (data : list X) (w : X -> R) (a : X -> I -> R),
       (forall (x : X) (i : I), In i idx -> 0 <= a x i) ->
       (forall x : X, exists i : I, In i idx /\ 0 < a x i) ->
       forall (f : V -> X -> I -> R) (theta0 : V) (J : X -> I -> V),
       (forall (x : X) (i : I), In x data -> In i idx -> is_gradient P (fun th : V => f th x i) theta0 (J x i)) ->
       forall (D : V) (e : R),
       is_gradient P
         (fun th : V =>
          rsum data (fun x : X => w x * cross_entropy idx (a x) (f th x) (teacher_logits f theta0 D x e))) theta0
         (opp (student_update idx data w J (pull_ce idx a f theta0 D) e)).
Proof. exact @cross_entropy_update_is_negative_gradient. Qed.

Example kl_update_is_negative_gradient_says :
  forall (V : NormedModule R_AbsRing) (X I : Type) (P : pairing V) (idx : list I)
         (data : list X) (w : X -> R) (a : X -> I -> R),
       (forall (x : X) (i : I), In i idx -> 0 <= a x i) ->
       (forall x : X, exists i : I, In i idx /\ 0 < a x i) ->
       forall (f : V -> X -> I -> R) (theta0 : V) (J : X -> I -> V),
       (forall (x : X) (i : I), In x data -> In i idx -> is_gradient P (fun th : V => f th x i) theta0 (J x i)) ->
       forall (D : V) (e : R),
       is_gradient P
         (fun th : V => rsum data (fun x : X => w x * kl idx (a x) (f th x) (teacher_logits f theta0 D x e)))
         theta0 (opp (student_update idx data w J (pull_ce idx a f theta0 D) e)).
Proof. exact @kl_update_is_negative_gradient. Qed.

Example alignment_derivative_cross_entropy_says :
  forall (V : NormedModule R_AbsRing) (X I : Type) (P : pairing V) (idx : list I)
         (data : list X) (w : X -> R) (a : X -> I -> R),
       (forall (x : X) (i : I), In i idx -> 0 <= a x i) ->
       (forall x : X, exists i : I, In i idx /\ 0 < a x i) ->
       forall (f : V -> X -> I -> R) (theta0 : V) (J : X -> I -> V),
       (forall (x : X) (i : I), In x data -> In i idx -> is_gradient P (fun th : V => f th x i) theta0 (J x i)) ->
       forall D : V,
       is_derive (alignment P idx data w J D (pull_ce idx a f theta0 D)) 0
         (coefficient_ce P idx data w a f theta0 J D).
Proof. exact @alignment_derivative_cross_entropy. Qed.

Example lemma1_cross_entropy_says :
  forall (V : NormedModule R_AbsRing) (X I : Type) (P : pairing V) (idx : list I) (data : list X) (w : X -> R),
       (forall x : X, In x data -> 0 <= w x) ->
       forall a : X -> I -> R,
       (forall (x : X) (i : I), In i idx -> 0 <= a x i) ->
       (forall x : X, exists i : I, In i idx /\ 0 < a x i) ->
       forall (f : V -> X -> I -> R) (theta0 : V) (J : X -> I -> V),
       (forall (x : X) (i : I), In x data -> In i idx -> is_gradient P (fun th : V => f th x i) theta0 (J x i)) ->
       forall D : V,
       exists e0 : R,
         0 < e0 /\ (forall e : R, 0 < e < e0 -> 0 <= alignment P idx data w J D (pull_ce idx a f theta0 D) e).
Proof. exact @lemma1_cross_entropy. Qed.

Example lemma1_sharp_cross_entropy_says :
  forall (V : NormedModule R_AbsRing) (X I : Type) (P : pairing V) (idx : list I) (data : list X) (w : X -> R),
       (forall x : X, In x data -> 0 <= w x) ->
       forall a : X -> I -> R,
       (forall (x : X) (i : I), In i idx -> 0 <= a x i) ->
       (forall x : X, exists i : I, In i idx /\ 0 < a x i) ->
       forall (f : V -> X -> I -> R) (theta0 : V) (J : X -> I -> V),
       (forall (x : X) (i : I), In x data -> In i idx -> is_gradient P (fun th : V => f th x i) theta0 (J x i)) ->
       forall D : V,
       (forall e : R, alignment P idx data w J D (pull_ce idx a f theta0 D) e = 0) \/
       (exists e0 : R,
          0 < e0 /\ (forall e : R, 0 < e < e0 -> 0 < alignment P idx data w J D (pull_ce idx a f theta0 D) e)).
Proof. exact @lemma1_sharp_cross_entropy. Qed.

Example theorem1_cross_entropy_says :
  forall (V : NormedModule R_AbsRing) (X I : Type) (P : pairing V) (idx : list I) (data : list X) (w : X -> R),
       (forall x : X, In x data -> 0 <= w x) ->
       forall a : X -> I -> R,
       (forall (x : X) (i : I), In i idx -> 0 <= a x i) ->
       (forall x : X, exists i : I, In i idx /\ 0 < a x i) ->
       forall (f : V -> X -> I -> R) (theta0 : V) (J : X -> I -> V),
       (forall (x : X) (i : I), In x data -> In i idx -> is_gradient P (fun th : V => f th x i) theta0 (J x i)) ->
       forall (D : V) (LT : V -> R) (alpha : R),
       is_gradient P LT theta0 (opp D) ->
       0 < alpha ->
       (forall e : R, alignment P idx data w J D (pull_ce idx a f theta0 D) e = 0) \/
       (exists e0 : R,
          0 < e0 /\
          (forall e : R,
           0 < e < e0 ->
           0 < alignment P idx data w J D (pull_ce idx a f theta0 D) e /\
           LT (plus theta0 (scal alpha (student_update idx data w J (pull_ce idx a f theta0 D) e))) < LT theta0)).
Proof. exact @theorem1_cross_entropy. Qed.

(** ** Theorems of SquaredError.v *)

Example squared_error_update_is_negative_gradient_says :
  forall (V : NormedModule R_AbsRing) (X I : Type) (P : pairing V) (idx : list I)
         (data : list X) (w : X -> R) (q : X -> I -> R) (f : V -> X -> I -> R) (theta0 : V)
         (J : X -> I -> V),
       (forall (x : X) (i : I), In x data -> In i idx -> is_gradient P (fun th : V => f th x i) theta0 (J x i)) ->
       forall (D : V) (e : R),
       is_gradient P
         (fun th : V =>
          rsum data (fun x : X => w x * squared_error idx q x (f th x) (teacher_logits f theta0 D x e))) theta0
         (opp (student_update idx data w J (pull_se q f theta0 D) e)).
Proof. exact @squared_error_update_is_negative_gradient. Qed.

Example alignment_derivative_squared_error_says :
  forall (V : NormedModule R_AbsRing) (X I : Type) (P : pairing V) (idx : list I)
         (data : list X) (w : X -> R) (q : X -> I -> R),
       (forall (x : X) (i : I), In i idx -> 0 <= q x i) ->
       forall (f : V -> X -> I -> R) (theta0 : V) (J : X -> I -> V),
       (forall (x : X) (i : I), In x data -> In i idx -> is_gradient P (fun th : V => f th x i) theta0 (J x i)) ->
       forall D : V,
       is_derive (alignment P idx data w J D (pull_se q f theta0 D)) 0 (coefficient_se P idx data w q J D).
Proof. exact @alignment_derivative_squared_error. Qed.

Example lemma1_squared_error_says :
  forall (V : NormedModule R_AbsRing) (X I : Type) (P : pairing V) (idx : list I) (data : list X) (w : X -> R),
       (forall x : X, In x data -> 0 <= w x) ->
       forall q : X -> I -> R,
       (forall (x : X) (i : I), In i idx -> 0 <= q x i) ->
       forall (f : V -> X -> I -> R) (theta0 : V) (J : X -> I -> V),
       (forall (x : X) (i : I), In x data -> In i idx -> is_gradient P (fun th : V => f th x i) theta0 (J x i)) ->
       forall D : V,
       exists e0 : R,
         0 < e0 /\ (forall e : R, 0 < e < e0 -> 0 <= alignment P idx data w J D (pull_se q f theta0 D) e).
Proof. exact @lemma1_squared_error. Qed.

Example lemma1_sharp_squared_error_says :
  forall (V : NormedModule R_AbsRing) (X I : Type) (P : pairing V) (idx : list I) (data : list X) (w : X -> R),
       (forall x : X, In x data -> 0 <= w x) ->
       forall q : X -> I -> R,
       (forall (x : X) (i : I), In i idx -> 0 <= q x i) ->
       forall (f : V -> X -> I -> R) (theta0 : V) (J : X -> I -> V),
       (forall (x : X) (i : I), In x data -> In i idx -> is_gradient P (fun th : V => f th x i) theta0 (J x i)) ->
       forall D : V,
       (forall e : R, alignment P idx data w J D (pull_se q f theta0 D) e = 0) \/
       (exists e0 : R,
          0 < e0 /\ (forall e : R, 0 < e < e0 -> 0 < alignment P idx data w J D (pull_se q f theta0 D) e)).
Proof. exact @lemma1_sharp_squared_error. Qed.

Example theorem1_squared_error_says :
  forall (V : NormedModule R_AbsRing) (X I : Type) (P : pairing V) (idx : list I) (data : list X) (w : X -> R),
       (forall x : X, In x data -> 0 <= w x) ->
       forall q : X -> I -> R,
       (forall (x : X) (i : I), In i idx -> 0 <= q x i) ->
       forall (f : V -> X -> I -> R) (theta0 : V) (J : X -> I -> V),
       (forall (x : X) (i : I), In x data -> In i idx -> is_gradient P (fun th : V => f th x i) theta0 (J x i)) ->
       forall (D : V) (LT : V -> R) (alpha : R),
       is_gradient P LT theta0 (opp D) ->
       0 < alpha ->
       (forall e : R, alignment P idx data w J D (pull_se q f theta0 D) e = 0) \/
       (exists e0 : R,
          0 < e0 /\
          (forall e : R,
           0 < e < e0 ->
           0 < alignment P idx data w J D (pull_se q f theta0 D) e /\
           LT (plus theta0 (scal alpha (student_update idx data w J (pull_se q f theta0 D) e))) < LT theta0)).
Proof. exact @theorem1_squared_error. Qed.

(** ** Theorems of Affine.v *)

Example monotone_affine_nonneg_says :
  forall (V : NormedModule R_AbsRing) (X I : Type) (P : pairing V) (idx : list I)
         (data : list X) (w : X -> R) (f : V -> X -> I -> R) (theta0 : V) (J : X -> I -> V)
         (D : V) (F : X -> (I -> R) -> I -> R),
       (forall x : X, In x data -> 0 <= w x) ->
       (forall (x : X) (z y : I -> R), In x data -> 0 <= rsum idx (fun i : I => (F x y i - F x z i) * (y i - z i))) ->
       (forall (x : X) (e : R) (i : I),
        teacher_logits f theta0 D x e i = f theta0 x i + e * logit_tangent P J D x i) ->
       forall e : R,
       0 <= e ->
       0 <=
       alignment P idx data w J D
         (fun (x : X) (e0 : R) (i : I) => F x (teacher_logits f theta0 D x e0) i - F x (f theta0 x) i) e.
Proof. exact @monotone_affine_nonneg. Qed.

Example softmax_monotone_says :
  forall (I : Type) (idx : list I) (a : I -> R),
       (forall i : I, In i idx -> 0 <= a i) ->
       (exists i : I, In i idx /\ 0 < a i) ->
       forall z y : I -> R, 0 <= rsum idx (fun i : I => (softmax idx a y i - softmax idx a z i) * (y i - z i)).
Proof. exact @softmax_monotone. Qed.

Example cross_entropy_affine_nonneg_says :
  forall (V : NormedModule R_AbsRing) (X I : Type) (P : pairing V) (idx : list I)
         (data : list X) (w : X -> R) (a : X -> I -> R) (f : V -> X -> I -> R) (theta0 : V)
         (J : X -> I -> V) (D : V),
       (forall x : X, In x data -> 0 <= w x) ->
       (forall (x : X) (i : I), In i idx -> 0 <= a x i) ->
       (forall x : X, exists i : I, In i idx /\ 0 < a x i) ->
       (forall (x : X) (e : R) (i : I),
        teacher_logits f theta0 D x e i = f theta0 x i + e * logit_tangent P J D x i) ->
       forall e : R, 0 <= e -> 0 <= alignment P idx data w J D (pull_ce idx a f theta0 D) e.
Proof. exact @cross_entropy_affine_nonneg. Qed.

Example squared_error_affine_exact_says :
  forall (V : NormedModule R_AbsRing) (X I : Type) (P : pairing V) (idx : list I)
         (data : list X) (w : X -> R) (q : X -> I -> R) (f : V -> X -> I -> R) (theta0 : V)
         (J : X -> I -> V) (D : V),
       (forall (x : X) (e : R) (i : I),
        teacher_logits f theta0 D x e i = f theta0 x i + e * logit_tangent P J D x i) ->
       forall e : R, alignment P idx data w J D (pull_se q f theta0 D) e = e * coefficient_se P idx data w q J D.
Proof. exact @squared_error_affine_exact. Qed.

Example certified_radius_says :
  forall (g dg ddg : R -> R) (A K r : R),
       g 0 = 0 ->
       dg 0 = A ->
       (forall t : R, 0 <= t <= r -> is_derive g t (dg t)) ->
       (forall t : R, 0 <= t <= r -> is_derive dg t (ddg t)) ->
       (forall t : R, 0 <= t <= r -> - K <= ddg t) -> forall e : R, 0 < e <= r -> K * e < 2 * A -> 0 < g e.
Proof. exact @certified_radius. Qed.

(** ** Theorems of Filter.v *)

Example filtered_update_is_negative_gradient_says :
  forall (V : NormedModule R_AbsRing) (I : Type) (P : pairing V) (idx : list I) (accept : I -> R)
         (log_p : V -> I -> R) (theta0 : V) (grad_log_p : I -> V),
       (forall k : I, In k idx -> is_gradient P (fun th : V => log_p th k) theta0 (grad_log_p k)) ->
       forall (D : V) (e : R),
       is_gradient P (fun th : V => - rsum idx (fun k : I => kept idx accept log_p theta0 D e k * log_p th k))
         theta0 (opp (filtered_update idx accept log_p theta0 grad_log_p D e)).
Proof. exact @filtered_update_is_negative_gradient. Qed.

Example filtered_differential_says :
  forall (V : NormedModule R_AbsRing) (I : Type) (P : pairing V) (idx : list I) (accept : I -> R),
       (forall k : I, In k idx -> 0 <= accept k) ->
       (exists k : I, In k idx /\ 0 < accept k) ->
       forall (log_p : V -> I -> R) (theta0 : V) (grad_log_p : I -> V),
       (forall k : I, In k idx -> is_gradient P (fun th : V => log_p th k) theta0 (grad_log_p k)) ->
       forall D : V,
       is_derive (filtered_alignment P idx accept log_p theta0 grad_log_p D) 0
         (retained_variance P idx accept log_p theta0 grad_log_p D).
Proof. exact @filtered_differential. Qed.

Example retained_variance_nonneg_says :
  forall (V : NormedModule R_AbsRing) (I : Type) (P : pairing V) (idx : list I) (accept : I -> R),
       (forall k : I, In k idx -> 0 <= accept k) ->
       (exists k : I, In k idx /\ 0 < accept k) ->
       forall (log_p : V -> I -> R) (theta0 : V) (grad_log_p : I -> V) (D : V),
       0 <= retained_variance P idx accept log_p theta0 grad_log_p D.
Proof. exact @retained_variance_nonneg. Qed.

Example filtered_beats_control_says :
  forall (V : NormedModule R_AbsRing) (I : Type) (P : pairing V) (idx : list I) (accept : I -> R),
       (forall k : I, In k idx -> 0 <= accept k) ->
       (exists k : I, In k idx /\ 0 < accept k) ->
       forall (log_p : V -> I -> R) (theta0 : V) (grad_log_p : I -> V),
       (forall k : I, In k idx -> is_gradient P (fun th : V => log_p th k) theta0 (grad_log_p k)) ->
       forall D : V,
       0 < retained_variance P idx accept log_p theta0 grad_log_p D ->
       exists e0 : R,
         0 < e0 /\
         (forall e : R,
          0 < e < e0 ->
          filtered_alignment P idx accept log_p theta0 grad_log_p D 0 <
          filtered_alignment P idx accept log_p theta0 grad_log_p D e).
Proof. exact @filtered_beats_control. Qed.

Example filtered_affine_monotone_says :
  forall (V : NormedModule R_AbsRing) (I : Type) (P : pairing V) (idx : list I) (accept : I -> R),
       (forall k : I, In k idx -> 0 <= accept k) ->
       (exists k : I, In k idx /\ 0 < accept k) ->
       forall (log_p : V -> I -> R) (theta0 : V) (grad_log_p : I -> V) (D : V) (c : R -> R),
       (forall (e : R_AbsRing) (k : I),
        log_p (plus theta0 (scal e D)) k = log_p theta0 k + e * score P grad_log_p D k + c e) ->
       forall e1 e2 : R,
       e1 <= e2 ->
       filtered_alignment P idx accept log_p theta0 grad_log_p D e1 <=
       filtered_alignment P idx accept log_p theta0 grad_log_p D e2.
Proof. exact @filtered_affine_monotone. Qed.

(** ** Theorems of MultiStep.v *)

Example cosine_rayleigh_bound_says :
  forall (V : NormedModule R_AbsRing) (P : pairing V),
       (forall v : V, 0 <= P v v) ->
       forall (G : V -> V) (L : R) (D : V),
       gram P G L -> 0 < P (G D) D -> 0 < L -> P (G D) D / (L * P D D) <= P (G D) D ^ 2 / (P (G D) (G D) * P D D).
Proof. exact @cosine_rayleigh_bound. Qed.

Example step_contracts_says :
  forall (V : NormedModule R_AbsRing) (P : pairing V),
       (forall v : V, 0 <= P v v) ->
       forall (G : V -> V) (L alpha : R) (w : V),
       gram P G L ->
       0 <= alpha ->
       alpha * L <= 2 ->
       let w' := minus w (scal alpha (G w)) in P w' w' <= P w w - alpha * (2 - alpha * L) * P (G w) w.
Proof. exact @step_contracts. Qed.

Example residual_non_increasing_says :
  forall (V : NormedModule R_AbsRing) (P : pairing V),
       (forall v : V, 0 <= P v v) ->
       forall (steps : list (R * (V -> V))) (w : V),
       List.Forall (admissible P) steps -> P (residual steps w) (residual steps w) <= P w w.
Proof. exact @residual_non_increasing. Qed.

Example cumulative_alignment_bound_says :
  forall (V : NormedModule R_AbsRing) (P : pairing V),
       (forall v : V, 0 <= P v v) ->
       forall (D w : V) (rho : R), 0 <= rho -> P w w <= rho ^ 2 * P D D -> (1 - rho) * P D D <= P D (minus D w).
Proof. exact @cumulative_alignment_bound. Qed.

Example cumulative_alignment_nonneg_says :
  forall (V : NormedModule R_AbsRing) (P : pairing V),
       (forall v : V, 0 <= P v v) ->
       forall (steps : list (R * (V -> V))) (D : V),
       List.Forall (admissible P) steps -> 0 <= P D (minus D (residual steps D)).
Proof. exact @cumulative_alignment_nonneg. Qed.

Example even_step_alignment_nonneg_says :
  forall (V : NormedModule R_AbsRing) (P : pairing V) (alpha : R) (G : V -> V) (L : R) (D : V),
       gram P G L -> forall k : nat, 0 <= P D (G (iterate alpha G (k + k) D)).
Proof. exact @even_step_alignment_nonneg. Qed.

Example full_batch_step_alignment_nonneg_says :
  forall (V : NormedModule R_AbsRing) (P : pairing V),
       (forall v : V, 0 <= P v v) ->
       forall (alpha : R) (G : V -> V) (L : R) (D : V),
       gram P G L -> 0 <= alpha -> alpha * L <= 1 -> forall t : nat, 0 <= P D (G (iterate alpha G t D)).
Proof. exact @full_batch_step_alignment_nonneg. Qed.

Example trajectory_derivative_says :
  forall (V : NormedModule R_AbsRing) (theta0 D : V) (steps : list (training_step theta0 D)),
       is_derive (fun e : R_AbsRing => trajectory theta0 D steps theta0 e) 0
         (minus D (residual (schedule theta0 D steps) D)).
Proof. exact @trajectory_derivative. Qed.

Example multi_step_alignment_says :
  forall (V : NormedModule R_AbsRing) (P : pairing V),
       (forall v : V, 0 <= P v v) ->
       forall (theta0 D : V) (steps : list (training_step theta0 D)),
       is_linear (fun v : V => P D v) ->
       List.Forall (admissible P) (schedule theta0 D steps) ->
       let slope := P D (minus D (residual (schedule theta0 D steps) D)) in
       is_derive (fun e : R_AbsRing => P D (minus (trajectory theta0 D steps theta0 e) theta0)) 0 slope /\
       0 <= slope /\
       (0 < slope ->
        exists e0 : R,
          0 < e0 /\ (forall e : R, 0 < e < e0 -> 0 < P D (minus (trajectory theta0 D steps theta0 e) theta0))).
Proof. exact @multi_step_alignment. Qed.

Example multi_step_lowers_teacher_loss_says :
  forall (V : NormedModule R_AbsRing) (P : pairing V),
       (forall v : V, 0 <= P v v) ->
       forall (theta0 D : V) (steps : list (training_step theta0 D)) (LT : V -> R),
       is_gradient P LT theta0 (opp D) ->
       List.Forall (admissible P) (schedule theta0 D steps) ->
       let slope := P D (minus D (residual (schedule theta0 D steps) D)) in
       is_derive (fun e : R_AbsRing => LT (trajectory theta0 D steps theta0 e)) 0 (- slope) /\
       0 <= slope /\
       (0 < slope ->
        exists e0 : R, 0 < e0 /\ (forall e : R, 0 < e < e0 -> LT (trajectory theta0 D steps theta0 e) < LT theta0)).
Proof. exact @multi_step_lowers_teacher_loss. Qed.

Example gram_bound_says :
  forall (V : NormedModule R_AbsRing) (P : pairing V),
       (forall v : V, 0 <= P v v) ->
       forall (G : V -> V) (L : R), gram P G L -> forall u : V, P (G u) (G u) <= L * P (G u) u.
Proof. exact @gram_bound. Qed.

(** ** Theorems of GradientSteps.v *)

Example gauss_newton_gram_says :
  forall (V : NormedModule R_AbsRing) (X I : Type) (P : pairing V) (idx : list I) (data : list X) (w : X -> R),
       (forall x : X, In x data -> 0 <= w x) ->
       forall (theta0 : V) (J : V -> X -> I -> V) (M : X -> (I -> R) -> I -> R),
       (forall (x : X) (u v : I -> R),
        In x data -> rsum idx (fun i : I => M x u i * v i) = rsum idx (fun i : I => M x v i * u i)) ->
       (forall (x : X) (u : I -> R), In x data -> 0 <= rsum idx (fun i : I => M x u i * u i)) ->
       forall L : R,
       (forall u : V, P (gauss_newton P idx data w theta0 J M u) u <= L * P u u) ->
       gram P (gauss_newton P idx data w theta0 J M) L.
Proof. exact @gauss_newton_gram. Qed.

Example descent_derive_says :
  forall (V : NormedModule R_AbsRing) (X I : Type) (P : pairing V) (idx : list I)
         (data : list X) (w : X -> R) (theta0 D : V) (J : V -> X -> I -> V),
       (forall (x : X) (i : I), In x data -> In i idx -> continuous (fun th : V => J th x i) theta0) ->
       forall (force : X -> V -> R -> I -> R) (M : X -> (I -> R) -> I -> R),
       (forall (x : X) (u v : I -> R) (i : I),
        In i idx -> (forall j : I, In j idx -> u j = v j) -> M x u i = M x v i) ->
       (forall (x : X) (u v : I -> R) (i : I), M x (fun j : I => u j + v j) i = M x u i + M x v i) ->
       (forall (x : X) (c : R) (u : I -> R) (i : I), M x (fun j : I => c * u j) i = c * M x u i) ->
       (forall (x : X) (i : I), In x data -> In i idx -> force x theta0 0 i = 0) ->
       (forall (x : X) (i : I),
        In x data ->
        In i idx ->
        filterdiff (fun p : prod_NormedModule R_AbsRing V R_NormedModule => force x (fst p) (snd p) i)
          (locally (theta0, 0))
          (fun h : prod_NormedModule R_AbsRing V R_NormedModule =>
           M x (fun j : I => snd h * P (J theta0 x j) D - P (J theta0 x j) (fst h)) i)) ->
       forall alpha : R,
       filterdiff
         (fun p : prod_NormedModule R_AbsRing V R_NormedModule => descent idx data w J force alpha (fst p) (snd p))
         (locally (theta0, 0))
         (fun h : prod_NormedModule R_AbsRing V R_NormedModule =>
          plus (minus (fst h) (scal alpha (gauss_newton P idx data w theta0 J M (fst h))))
            (scal (snd h) (scal alpha (gauss_newton P idx data w theta0 J M D)))).
Proof. exact @descent_derive. Qed.

Example multi_step_descent_says :
  forall (V : NormedModule R_AbsRing) (X I : Type) (P : pairing V),
       (forall v : V, 0 <= P v v) ->
       forall (idx : list I) (f : V -> X -> I -> R) (theta0 D : V),
       is_linear (fun v : V => P D v) ->
       forall J : V -> X -> I -> V,
       (forall (x : X) (i : I), In i idx -> is_gradient P (fun th : V => f th x i) theta0 (J theta0 x i)) ->
       (forall (x : X) (i : I), In i idx -> continuous (fun th : V => J th x i) theta0) ->
       forall (force : X -> V -> R -> I -> R) (M : X -> (I -> R) -> I -> R),
       (forall (x : X) (u v : I -> R) (i : I),
        In i idx -> (forall j : I, In j idx -> u j = v j) -> M x u i = M x v i) ->
       (forall (x : X) (u v : I -> R) (i : I), M x (fun j : I => u j + v j) i = M x u i + M x v i) ->
       (forall (x : X) (c : R) (u : I -> R) (i : I), M x (fun j : I => c * u j) i = c * M x u i) ->
       (forall (l : I -> V -> R) (x : X) (i : I),
        In i idx ->
        (forall j : I, In j idx -> is_linear (l j)) -> is_linear (fun h : V => M x (fun j : I => l j h) i)) ->
       (forall (x : X) (u v : I -> R),
        rsum idx (fun i : I => M x u i * v i) = rsum idx (fun i : I => M x v i * u i)) ->
       (forall (x : X) (u : I -> R), 0 <= rsum idx (fun i : I => M x u i * u i)) ->
       (forall (x : X) (i : I), In i idx -> force x theta0 0 i = 0) ->
       (forall (x : X) (i : I),
        In i idx ->
        filterdiff (fun p : prod_NormedModule R_AbsRing V R_NormedModule => force x (fst p) (snd p) i)
          (locally (theta0, 0))
          (fun h : prod_NormedModule R_AbsRing V R_NormedModule =>
           M x (fun j : I => snd h * P (J theta0 x j) D - P (J theta0 x j) (fst h)) i)) ->
       forall (bs : list (batch P idx theta0 J M)) (LT : V -> R),
       let slope := P D (minus D (distance_left P idx theta0 J M bs D)) in
       0 <= slope /\
       P (distance_left P idx theta0 J M bs D) (distance_left P idx theta0 J M bs D) <= P D D /\
       is_derive (fun e : R_AbsRing => P D (minus (train P idx theta0 J force M bs theta0 e) theta0)) 0 slope /\
       (is_gradient P LT theta0 (opp D) ->
        is_derive (fun e : R_AbsRing => LT (train P idx theta0 J force M bs theta0 e)) 0 (- slope)) /\
       (0 < slope ->
        exists e0 : R,
          0 < e0 /\ (forall e : R, 0 < e < e0 -> 0 < P D (minus (train P idx theta0 J force M bs theta0 e) theta0))) /\
       (0 < slope ->
        is_gradient P LT theta0 (opp D) ->
        exists e0 : R,
          0 < e0 /\ (forall e : R, 0 < e < e0 -> LT (train P idx theta0 J force M bs theta0 e) < LT theta0)).
Proof. exact @multi_step_descent. Qed.

Example descent_ce_is_gradient_descent_says :
  forall (V : NormedModule R_AbsRing) (X I : Type) (P : pairing V) (idx : list I)
         (f : V -> X -> I -> R) (theta0 D : V) (J : V -> X -> I -> V),
       (forall (th : V) (x : X) (i : I), In i idx -> is_gradient P (fun th0 : V => f th0 x i) th (J th x i)) ->
       forall a : X -> I -> R,
       (forall (x : X) (i : I), In i idx -> 0 <= a x i) ->
       (forall x : X, exists i : I, In i idx /\ 0 < a x i) ->
       forall (data : list X) (w : X -> R) (theta : V) (e : R_AbsRing),
       is_gradient P
         (fun th : V => rsum data (fun x : X => w x * kl idx (a x) (f th x) (f (plus theta0 (scal e D)) x))) theta
         (opp
            (vsum data
               (fun x : X =>
                vsum idx (fun i : I => scal (w x * force_ce idx f theta0 D a x theta e i) (J theta x i))))).
Proof. exact @descent_ce_is_gradient_descent. Qed.

Example multi_step_cross_entropy_says :
  forall (V : NormedModule R_AbsRing) (X I : Type) (P : pairing V),
       (forall v : V, 0 <= P v v) ->
       forall (idx : list I) (f : V -> X -> I -> R) (theta0 D : V),
       is_linear (fun v : V => P D v) ->
       forall J : V -> X -> I -> V,
       (forall (th : V) (x : X) (i : I), In i idx -> is_gradient P (fun th0 : V => f th0 x i) th (J th x i)) ->
       (forall (x : X) (i : I), In i idx -> continuous (fun th : V => J th x i) theta0) ->
       forall a : X -> I -> R,
       (forall (x : X) (i : I), In i idx -> 0 <= a x i) ->
       (forall x : X, exists i : I, In i idx /\ 0 < a x i) ->
       forall (bs : list (batch P idx theta0 J (M_ce idx f theta0 a))) (LT : V -> R),
       let slope := P D (minus D (distance_left P idx theta0 J (M_ce idx f theta0 a) bs D)) in
       let final := fun e : R => train P idx theta0 J (force_ce idx f theta0 D a) (M_ce idx f theta0 a) bs theta0 e
         in
       0 <= slope /\
       P (distance_left P idx theta0 J (M_ce idx f theta0 a) bs D)
         (distance_left P idx theta0 J (M_ce idx f theta0 a) bs D) <= P D D /\
       is_derive (fun e : R_AbsRing => P D (minus (final e) theta0)) 0 slope /\
       (is_gradient P LT theta0 (opp D) -> is_derive (fun e : R_AbsRing => LT (final e)) 0 (- slope)) /\
       (0 < slope -> exists e0 : R, 0 < e0 /\ (forall e : R, 0 < e < e0 -> 0 < P D (minus (final e) theta0))) /\
       (0 < slope ->
        is_gradient P LT theta0 (opp D) ->
        exists e0 : R, 0 < e0 /\ (forall e : R, 0 < e < e0 -> LT (final e) < LT theta0)).
Proof. exact @multi_step_cross_entropy. Qed.

Example descent_se_is_gradient_descent_says :
  forall (V : NormedModule R_AbsRing) (X I : Type) (P : pairing V) (idx : list I)
         (f : V -> X -> I -> R) (theta0 D : V) (J : V -> X -> I -> V),
       (forall (th : V) (x : X) (i : I), In i idx -> is_gradient P (fun th0 : V => f th0 x i) th (J th x i)) ->
       forall (q : X -> I -> R) (data : list X) (w : X -> R) (theta : V) (e : R_AbsRing),
       is_gradient P
         (fun th : V =>
          rsum data (fun x : X => w x * squared_error idx q x (f th x) (f (plus theta0 (scal e D)) x))) theta
         (opp
            (vsum data
               (fun x : X => vsum idx (fun i : I => scal (w x * force_se f theta0 D q x theta e i) (J theta x i))))).
Proof. exact @descent_se_is_gradient_descent. Qed.

Example multi_step_squared_error_says :
  forall (V : NormedModule R_AbsRing) (X I : Type) (P : pairing V),
       (forall v : V, 0 <= P v v) ->
       forall (idx : list I) (f : V -> X -> I -> R) (theta0 D : V),
       is_linear (fun v : V => P D v) ->
       forall J : V -> X -> I -> V,
       (forall (th : V) (x : X) (i : I), In i idx -> is_gradient P (fun th0 : V => f th0 x i) th (J th x i)) ->
       (forall (x : X) (i : I), In i idx -> continuous (fun th : V => J th x i) theta0) ->
       forall q : X -> I -> R,
       (forall (x : X) (i : I), In i idx -> 0 <= q x i) ->
       forall (bs : list (batch P idx theta0 J (M_se q))) (LT : V -> R),
       let slope := P D (minus D (distance_left P idx theta0 J (M_se q) bs D)) in
       let final := fun e : R => train P idx theta0 J (force_se f theta0 D q) (M_se q) bs theta0 e in
       0 <= slope /\
       P (distance_left P idx theta0 J (M_se q) bs D) (distance_left P idx theta0 J (M_se q) bs D) <= P D D /\
       is_derive (fun e : R_AbsRing => P D (minus (final e) theta0)) 0 slope /\
       (is_gradient P LT theta0 (opp D) -> is_derive (fun e : R_AbsRing => LT (final e)) 0 (- slope)) /\
       (0 < slope -> exists e0 : R, 0 < e0 /\ (forall e : R, 0 < e < e0 -> 0 < P D (minus (final e) theta0))) /\
       (0 < slope ->
        is_gradient P LT theta0 (opp D) ->
        exists e0 : R, 0 < e0 /\ (forall e : R, 0 < e < e0 -> LT (final e) < LT theta0)).
Proof. exact @multi_step_squared_error. Qed.

Example filterdiff_scal_vanishing_says :
  forall (W V : NormedModule R_AbsRing) (u : W -> R) (F : W -> V) (p : W) (du : W -> R),
       filterdiff u (locally p) du ->
       u p = 0 ->
       continuous F p -> filterdiff (fun t : W => scal (u t) (F t)) (locally p) (fun h : W => scal (du h) (F p)).
Proof. exact @filterdiff_scal_vanishing. Qed.

(** ** Theorems of Vectors.v *)

Example riesz_says :
  forall (t : tree) (l : space t -> R), is_linear l -> exists g : space t, forall h : space t, l h = dot t g h.
Proof. exact @riesz. Qed.

Example grad_correct_says :
  forall (t : tree) (F : space t -> R) (x : space t),
       ex_filterdiff F (locally x) -> is_gradient (dot t) F x (grad t F x).
Proof. exact @grad_correct. Qed.

Example gradient_unique_says :
  forall (t : tree) (F : space t -> R) (x g1 g2 : space t),
       is_gradient (dot t) F x g1 -> is_gradient (dot t) F x g2 -> g1 = g2.
Proof. exact @gradient_unique. Qed.

(** ** Theorems of Losses.v *)

Example pull_vanishes_on_diagonal_says :
  forall (E : NormedModule R_AbsRing) (l : E -> E -> R) (g : E -> E -> E -> R),
       (forall z y : E, l y y <= l z y) ->
       (forall z y : E, filterdiff (fun z0 : E => l z0 y) (locally z) (g z y)) -> forall y u : E, g y y u = 0.
Proof. exact @pull_vanishes_on_diagonal. Qed.

Example mixed_is_minus_hessian_says :
  forall (E : NormedModule R_AbsRing) (l : E -> E -> R) (g : E -> E -> E -> R),
       (forall z y : E, l y y <= l z y) ->
       (forall z y : E, filterdiff (fun z0 : E => l z0 y) (locally z) (g z y)) ->
       forall (z0 : E) (L : E -> prod_NormedModule R_AbsRing E E -> R),
       (forall u : E,
        filterdiff (fun p : prod_NormedModule R_AbsRing E E => g (fst p) (snd p) u) (locally (z0, z0)) (L u)) ->
       forall u h : E, - mixed L u h = hessian L u h.
Proof. exact @mixed_is_minus_hessian. Qed.

Example hessian_psd_says :
  forall (E : NormedModule R_AbsRing) (l : E -> E -> R) (g : E -> E -> E -> R),
       (forall z y : E, l y y <= l z y) ->
       (forall z y : E, filterdiff (fun z0 : E => l z0 y) (locally z) (g z y)) ->
       forall (z0 : E) (L : E -> prod_NormedModule R_AbsRing E E -> R),
       (forall u : E,
        filterdiff (fun p : prod_NormedModule R_AbsRing E E => g (fst p) (snd p) u) (locally (z0, z0)) (L u)) ->
       forall u : E, 0 <= hessian L u u.
Proof. exact @hessian_psd. Qed.

Example hessian_symmetric_says :
  forall (E : NormedModule R_AbsRing) (l : E -> E -> R) (g : E -> E -> E -> R),
       (forall z y : E, l y y <= l z y) ->
       (forall z y : E, filterdiff (fun z0 : E => l z0 y) (locally z) (g z y)) ->
       forall (z0 : E) (L : E -> prod_NormedModule R_AbsRing E E -> R),
       (forall u : E,
        filterdiff (fun p : prod_NormedModule R_AbsRing E E => g (fst p) (snd p) u) (locally (z0, z0)) (L u)) ->
       forall u v : E, hessian L u v = hessian L v u.
Proof. exact @hessian_symmetric. Qed.

Example definite_hessian_null_space_says :
  forall (n : nat) (g : space (vector n) -> space (vector n) -> space (vector n) -> R)
         (L : space (vector n) -> prod_NormedModule R_AbsRing (space (vector n)) (space (vector n)) -> R),
       (forall z y : space (vector n), is_linear (g z y)) ->
       (forall u : space (vector n), hessian L u u = 0 -> u = zero) ->
       forall u : space (vector n), hessian L u u = 0 -> forall z y : space (vector n), g z y u = 0.
Proof. exact @definite_hessian_null_space. Qed.

Example minimised_loss_update_is_negative_gradient_says :
  forall (V : NormedModule R_AbsRing) (X : Type) (P : pairing V) (n : nat) (data : list X)
         (w : X -> R) (f : NormedModule.sort R_AbsRing V -> X -> nat -> R) (theta0 : NormedModule.sort R_AbsRing V)
         (J : X -> nat -> NormedModule.sort R_AbsRing V),
       (forall (x : X) (i : nat),
        @In X x data ->
        @In nat i (seq 0 n) -> @is_gradient V P (fun th : NormedModule.sort R_AbsRing V => f th x i) theta0 (J x i)) ->
       forall (D : NormedModule.sort R_AbsRing V)
         (l : X ->
              NormedModule.sort R_AbsRing (space (vector n)) -> NormedModule.sort R_AbsRing (space (vector n)) -> R)
         (g : X ->
              NormedModule.sort R_AbsRing (space (vector n)) ->
              NormedModule.sort R_AbsRing (space (vector n)) -> NormedModule.sort R_AbsRing (space (vector n)) -> R),
       (forall (x : X) (z : UniformSpace.sort (NormedModule.UniformSpace R_AbsRing (space (vector n))))
          (y : NormedModule.sort R_AbsRing (space (vector n))),
        @filterdiff R_AbsRing (space (vector n)) R_NormedModule
          (fun z0 : NormedModule.sort R_AbsRing (space (vector n)) => l x z0 y)
          (@locally (NormedModule.UniformSpace R_AbsRing (space (vector n))) z) (g x z y)) ->
       forall e : R,
       @is_gradient V P
         (fun th : NormedModule.sort R_AbsRing V =>
          @rsum X data
            (fun x : X => w x * l x (@of_entries scalar n (f th x)) (@teacher_vector V X n f theta0 D x e))) theta0
         (@opp (NormedModule.AbelianGroup R_AbsRing V)
            (@student_update V X nat (seq 0 n) data w J (@pull_min V X n f theta0 D g) e)).
Proof. exact @minimised_loss_update_is_negative_gradient. Qed.

Example lemma1_minimised_loss_says :
  forall (V : NormedModule R_AbsRing) (X : Type) (P : pairing V) (n : nat) (data : list X) (w : X -> R),
       (forall x : X, In x data -> 0 <= w x) ->
       forall (f : V -> X -> nat -> R) (theta0 : V) (J : X -> nat -> V),
       (forall (x : X) (i : nat),
        In x data -> In i (seq 0 n) -> is_gradient P (fun th : V => f th x i) theta0 (J x i)) ->
       forall (D : V) (l : X -> space (vector n) -> space (vector n) -> R)
         (g : X -> space (vector n) -> space (vector n) -> space (vector n) -> R),
       (forall (x : X) (z y : space (vector n)), l x y y <= l x z y) ->
       (forall (x : X) (z y : space (vector n)),
        filterdiff (fun z0 : space (vector n) => l x z0 y) (locally z) (g x z y)) ->
       forall L : X -> space (vector n) -> prod_NormedModule R_AbsRing (space (vector n)) (space (vector n)) -> R,
       (forall (x : X) (u : space (vector n)),
        filterdiff
          (fun p : prod_NormedModule R_AbsRing (space (vector n)) (space (vector n)) => g x (fst p) (snd p) u)
          (locally (reference_logits n f theta0 x, reference_logits n f theta0 x)) (L x u)) ->
       (forall x : X,
        In x data ->
        hessian (L x) (tangent_vector P n J D x) (tangent_vector P n J D x) = 0 ->
        forall e : R,
        g x (reference_logits n f theta0 x) (teacher_vector n f theta0 D x e) (tangent_vector P n J D x) = 0) ->
       exists e0 : R,
         0 < e0 /\ (forall e : R, 0 < e < e0 -> 0 <= alignment P (seq 0 n) data w J D (pull_min n f theta0 D g) e).
Proof. exact @lemma1_minimised_loss. Qed.

Example theorem1_minimised_loss_says :
  forall (V : NormedModule R_AbsRing) (X : Type) (P : pairing V) (n : nat) (data : list X) (w : X -> R),
       (forall x : X, In x data -> 0 <= w x) ->
       forall (f : V -> X -> nat -> R) (theta0 : V) (J : X -> nat -> V),
       (forall (x : X) (i : nat),
        In x data -> In i (seq 0 n) -> is_gradient P (fun th : V => f th x i) theta0 (J x i)) ->
       forall (D : V) (l : X -> space (vector n) -> space (vector n) -> R)
         (g : X -> space (vector n) -> space (vector n) -> space (vector n) -> R),
       (forall (x : X) (z y : space (vector n)), l x y y <= l x z y) ->
       (forall (x : X) (z y : space (vector n)),
        filterdiff (fun z0 : space (vector n) => l x z0 y) (locally z) (g x z y)) ->
       forall L : X -> space (vector n) -> prod_NormedModule R_AbsRing (space (vector n)) (space (vector n)) -> R,
       (forall (x : X) (u : space (vector n)),
        filterdiff
          (fun p : prod_NormedModule R_AbsRing (space (vector n)) (space (vector n)) => g x (fst p) (snd p) u)
          (locally (reference_logits n f theta0 x, reference_logits n f theta0 x)) (L x u)) ->
       (forall x : X,
        In x data ->
        hessian (L x) (tangent_vector P n J D x) (tangent_vector P n J D x) = 0 ->
        forall e : R,
        g x (reference_logits n f theta0 x) (teacher_vector n f theta0 D x e) (tangent_vector P n J D x) = 0) ->
       forall (LT : V -> R) (alpha : R),
       is_gradient P LT theta0 (opp D) ->
       0 < alpha ->
       (forall e : R, alignment P (seq 0 n) data w J D (pull_min n f theta0 D g) e = 0) \/
       (exists e0 : R,
          0 < e0 /\
          (forall e : R,
           0 < e < e0 ->
           0 < alignment P (seq 0 n) data w J D (pull_min n f theta0 D g) e /\
           LT (plus theta0 (scal alpha (student_update (seq 0 n) data w J (pull_min n f theta0 D g) e))) <
           LT theta0)).
Proof. exact @theorem1_minimised_loss. Qed.

(** ** Theorems of Network.v *)

Example mlp_differentiable_says :
  forall (act : R -> R) (d : nat) (hidden : list nat) (k : nat) (theta0 : space (mlp_tree d hidden k))
         (x : nat -> R),
       smooth_on act d hidden k theta0 x ->
       forall i : nat,
       ex_filterdiff (fun th : space (mlp_tree d hidden k) => mlp act d hidden k th x i) (locally theta0).
Proof. exact @mlp_differentiable. Qed.

Example mlp_cross_entropy_says :
  forall (act : R -> R) (d k : nat) (hidden distilled : list nat) (data : list (nat -> R))
         (w : (nat -> R) -> R),
       (forall x : nat -> R, In x data -> 0 <= w x) ->
       forall theta0 D : space (mlp_tree d hidden k),
       (forall x : nat -> R, In x data -> smooth_on act d hidden k theta0 x) ->
       distilled <> [] ->
       let update :=
         fun e : R =>
         opp (grad (mlp_tree d hidden k) (expected_kl act d k hidden distilled data w theta0 D e) theta0) in
       (forall e : R,
        is_gradient (dot (mlp_tree d hidden k)) (expected_kl act d k hidden distilled data w theta0 D e) theta0
          (opp (update e))) /\
       (exists e0 : R, 0 < e0 /\ (forall e : R, 0 < e < e0 -> 0 <= dot (mlp_tree d hidden k) D (update e))) /\
       (forall (LT : space (mlp_tree d hidden k) -> R) (alpha : R),
        is_gradient (dot (mlp_tree d hidden k)) LT theta0 (opp D) ->
        0 < alpha ->
        (forall e : R, dot (mlp_tree d hidden k) D (update e) = 0) \/
        (exists e0 : R,
           0 < e0 /\
           (forall e : R,
            0 < e < e0 ->
            0 < dot (mlp_tree d hidden k) D (update e) /\ LT (plus theta0 (scal alpha (update e))) < LT theta0))).
Proof. exact @mlp_cross_entropy. Qed.

Example mlp_squared_error_says :
  forall (act : R -> R) (d k : nat) (hidden distilled : list nat) (data : list (nat -> R))
         (w : (nat -> R) -> R),
       (forall x : nat -> R, In x data -> 0 <= w x) ->
       forall theta0 D : space (mlp_tree d hidden k),
       (forall x : nat -> R, In x data -> smooth_on act d hidden k theta0 x) ->
       let update :=
         fun e : R =>
         opp
           (grad (mlp_tree d hidden k) (expected_squared_error act d k hidden distilled data w theta0 D e) theta0)
         in
       (forall e : R,
        is_gradient (dot (mlp_tree d hidden k)) (expected_squared_error act d k hidden distilled data w theta0 D e)
          theta0 (opp (update e))) /\
       (exists e0 : R, 0 < e0 /\ (forall e : R, 0 < e < e0 -> 0 <= dot (mlp_tree d hidden k) D (update e))) /\
       (forall (LT : space (mlp_tree d hidden k) -> R) (alpha : R),
        is_gradient (dot (mlp_tree d hidden k)) LT theta0 (opp D) ->
        0 < alpha ->
        (forall e : R, dot (mlp_tree d hidden k) D (update e) = 0) \/
        (exists e0 : R,
           0 < e0 /\
           (forall e : R,
            0 < e < e0 ->
            0 < dot (mlp_tree d hidden k) D (update e) /\ LT (plus theta0 (scal alpha (update e))) < LT theta0))).
Proof. exact @mlp_squared_error. Qed.

Example tanh_differentiable_says :
  forall x : R_AbsRing, ex_derive tanh x.
Proof. exact @tanh_differentiable. Qed.

Example relu_differentiable_says :
  forall x : R, x <> 0 -> ex_derive relu x.
Proof. exact @relu_differentiable. Qed.

Example two_layer_tanh_says :
  forall (d m k : nat) (distilled : list nat) (data : list (nat -> R)) (theta0 D : space (mlp_tree d [m] k)),
       distilled <> [] ->
       let T := mlp_tree d [m] k in
       let loss :=
         fun (e : R_AbsRing) (theta : space (mlp_tree d [m] k)) =>
         rsum data
           (fun x : nat -> R =>
            / INR (length data) *
            kl distilled (fun _ : nat => 1) (two_layer d m k theta x) (two_layer d m k (plus theta0 (scal e D)) x))
         in
       let update := fun e : R_AbsRing => opp (grad T (loss e) theta0) in
       (forall e : R_AbsRing, is_gradient (dot T) (loss e) theta0 (opp (update e))) /\
       (exists e0 : R, 0 < e0 /\ (forall e : R, 0 < e < e0 -> 0 <= dot T D (update e))).
Proof. exact @two_layer_tanh. Qed.

(** ** Theorems of Counterexamples.v *)

Example relu_kink_says :
  is_gradient dot2 kink_LT zero (opp kink_D) /\
       (forall e : R,
        0 < e ->
        dot2 kink_D (kink_update e) = - (2 * e) /\
        (forall alpha : R, 0 < alpha -> kink_LT zero < kink_LT (plus zero (scal alpha (kink_update e))))).
Proof. exact @relu_kink. Qed.

Example sign_step_says :
  forall e : R,
       0 < e ->
       let update :=
         student_update [tt] [tt] (fun _ : unit => 1) sign_J (pull_se (fun _ _ : unit => 1) sign_f zero sign_D) e
         in
       dot3 sign_D update = 32 * e /\ dot3 sign_D (signs update) = -5.
Proof. exact @sign_step. Qed.

Example frozen_part_negative_says :
  forall e : R,
       let update :=
         student_update [tt] [tt] (fun _ : unit => 1) frozen_J
           (pull_se (fun _ _ : unit => 1) frozen_f zero frozen_D) e in
       dot2 frozen_D update = 8 * e /\ dot2 frozen_D (fst update, 0) = - (4 * e).
Proof. exact @frozen_part_negative. Qed.

Example weight_decay_sign_lost_says :
  forall (e : R) (lambda : R_AbsRing),
       let update :=
         student_update [tt] [tt] (fun _ : unit => 1) (fun _ _ : unit => 1)
           (pull_se (fun _ _ : unit => 1) (fun (t : R_NormedModule) (_ _ : unit) => t) 1 1) e in
       pairing_R 1 (minus update (scal lambda 1)) = 2 * e - lambda.
Proof. exact @weight_decay_sign_lost. Qed.

Example temperature_sign_lost_says :
  alignment pairing_R [true; false] [tt] (fun _ : unit => 1) (fun (_ : unit) (i : bool) => if i then 1 else 0)
         1 warm_pull 0 = - (3 / 20).
Proof. exact @temperature_sign_lost. Qed.

Example null_space_needed_says :
  (forall z y : bool -> R, null_loss y y <= null_loss z y) /\
       (forall (e : R) (i : bool),
        is_derive
          (fun t : R_AbsRing => null_loss (fun j : bool => if Bool.eqb j i then t else null_f 0 tt j) (null_f e tt))
          (null_f 0 tt i) (- null_pull tt e i)) /\
       (forall i : bool, is_derive (fun t : R_AbsRing => null_f t tt i) 0 (null_J tt i)) /\
       (forall e : R, alignment pairing_R [true; false] [tt] (fun _ : unit => 1) null_J 1 null_pull e = - e ^ 3).
Proof. exact @null_space_needed. Qed.

Example single_step_sign_lost_says :
  gram dot2 batch1 1 /\ gram dot2 batch2 5 /\ dot2 batch_D (batch2 (residual [(1, batch1)] batch_D)) = - / 2.
Proof. exact @single_step_sign_lost. Qed.

Example overshoot_sign_lost_says :
  gram pairing_R (fun v : R_NormedModule => v) 1 /\
       pairing_R 1 (residual [(3 / 2, fun v : R_NormedModule => v)] 1) = - / 2.
Proof. exact @overshoot_sign_lost. Qed.

Example filter_flip_says :
  (forall k : nat, is_gradient dot3 (fun th : R3 => flip_log_p th k) zero (flip_grad k)) /\
       (forall e : R,
        filtered_alignment dot3 [0%nat; 1%nat; 2%nat] flip_accept flip_log_p zero flip_grad (1, (0, 0)) e = - / 3).
Proof. exact @filter_flip. Qed.

Example exchange_needed_says :
  is_series spike_weight 1 /\
       (forall n : nat, is_derive (fun t : R_AbsRing => spike_f t n) 0 1) /\
       (forall (n : nat) (t : R_AbsRing), ex_derive (fun t0 : R_AbsRing => spike_f t0 n) t) /\
       (forall n : nat, is_derive (fun e : R_AbsRing => spike_alignment e n) 0 2) /\
       (forall e : R,
        0 < e < 1 ->
        ex_series (fun n : nat => spike_weight n * spike_alignment e n) /\
        Series (fun n : nat => spike_weight n * spike_alignment e n) <= - (4 * e)).
Proof. exact @exchange_needed. Qed.

(** ** Theorems of Audit.v *)

Example project_component_says :
  forall (V : NormedModule R_AbsRing) (P : pairing V) (s : R) (g u : V),
       0 < P g g -> P (project P s g u) g = (if Rle_dec 0 (P u g) then P u g else (1 - s) * P u g).
Proof. exact @project_component. Qed.

Example projected_does_not_lower_says :
  forall (V : NormedModule R_AbsRing) (P : pairing V) (s : R) (g u : V) (F : V -> R) (x : V),
       0 < P g g ->
       1 <= s ->
       is_gradient P F x g ->
       is_derive (fun t : R_AbsRing => F (plus x (scal t (project P s g u)))) 0 (P g (project P s g u)) /\
       0 <= P g (project P s g u).
Proof. exact @projected_does_not_lower. Qed.

Example project_spares_says :
  forall (V : NormedModule R_AbsRing) (P : pairing V) (s : R) (g u w : V),
       P g w = 0 -> P (project P s g u) w = P u w.
Proof. exact @project_spares. Qed.

Example project_shortens_says :
  forall (V : NormedModule R_AbsRing) (P : pairing V) (s : R) (g u : V),
       0 < P g g -> 0 <= s <= 2 -> P (project P s g u) (project P s g u) <= P u u.
Proof. exact @project_shortens. Qed.

Example remove_component_says :
  forall (V : NormedModule R_AbsRing) (P : pairing V) (dose : R) (g d : V),
       0 < P g g -> P (remove P dose g d) g = (1 - dose) * P d g.
Proof. exact @remove_component. Qed.

Example remove_is_nearest_says :
  forall (V : NormedModule R_AbsRing) (P : pairing V) (g d e : V),
       (forall v : V, 0 <= P v v) ->
       0 < P g g -> P e g = 0 -> P (minus d (remove P 1 g d)) (minus d (remove P 1 g d)) <= P (minus d e) (minus d e).
Proof. exact @remove_is_nearest. Qed.

Example remove_spares_says :
  forall (V : NormedModule R_AbsRing) (P : pairing V) (dose : R) (g d w : V),
       P g w = 0 -> P (remove P dose g d) w = P d w.
Proof. exact @remove_spares. Qed.

Example displacements_add_says :
  forall (V : ModuleSpace R_AbsRing) (steps : list (R * (V -> V))) (a b : list V),
       length a = length steps ->
       length b = length steps ->
       (forall s : R * (V -> V), In s steps -> additive (snd s)) ->
       displacement steps (sum_targets a b) = plus (displacement steps a) (displacement steps b).
Proof. exact @displacements_add. Qed.

Example subtraction_removes_exactly_says :
  forall (V : ModuleSpace R_AbsRing) (steps : list (R * (V -> V))) (wanted trait : list V),
       length wanted = length steps ->
       length trait = length steps ->
       (forall s : R * (V -> V), In s steps -> additive (snd s)) ->
       minus (displacement steps (sum_targets wanted trait)) (displacement steps trait) = displacement steps wanted.
Proof. exact @subtraction_removes_exactly. Qed.

Example projection_is_blind_at_a_flat_start_says :
  is_gradient pairing_R flat 0 0 /\
       (forall s u : R, project pairing_R s 0 u = u) /\ (forall t : R, 0 < t -> flat (plus 0 (scal t 1)) < flat 0).
Proof. exact @projection_is_blind_at_a_flat_start. Qed.
