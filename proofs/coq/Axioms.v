(** * What the headline theorems assume

    [make axioms] compiles this file and compares what it prints with axioms.allowed: the axioms by which Coq's
    standard library builds the classical real numbers, and nothing else. One tuple holds all theorems, because
    printing the assumptions of each alone walks through the real numbers once per theorem. *)
From Sublim Require Import Softmax Alignment CrossEntropy SquaredError Affine Filter MultiStep GradientSteps
  Vectors Losses Network Counterexamples.

Definition headline := (
  (* Alignment.v *)
  @alignment_formula,
  @alignment_derivative,
  @alignment_vanishes,
  @lemma1,
  @lemma1_sharp,
  @theorem1,
  @theorem1_preconditioned,
  @orthogonal_transmits_nothing,
  @class_block_never_moves,
  (* Softmax.v, CrossEntropy.v, SquaredError.v *)
  @quadratic_form_is_variance,
  @null_space_orthogonal,
  @softmax_one_logit,
  @softmax_shift,
  @cross_entropy_update_is_negative_gradient,
  @kl_update_is_negative_gradient,
  @alignment_derivative_cross_entropy,
  @lemma1_cross_entropy,
  @lemma1_sharp_cross_entropy,
  @theorem1_cross_entropy,
  @squared_error_update_is_negative_gradient,
  @alignment_derivative_squared_error,
  @lemma1_squared_error,
  @lemma1_sharp_squared_error,
  @theorem1_squared_error,
  (* Affine.v *)
  @monotone_affine_nonneg,
  @softmax_monotone,
  @cross_entropy_affine_nonneg,
  @squared_error_affine_exact,
  @certified_radius,
  (* Filter.v *)
  @filtered_update_is_negative_gradient,
  @filtered_differential,
  @retained_variance_nonneg,
  @filtered_beats_control,
  @filtered_affine_monotone,
  (* MultiStep.v, GradientSteps.v *)
  @cosine_rayleigh_bound,
  @step_contracts,
  @residual_non_increasing,
  @cumulative_alignment_bound,
  @cumulative_alignment_nonneg,
  @even_step_alignment_nonneg,
  @full_batch_step_alignment_nonneg,
  @trajectory_derivative,
  @multi_step_alignment,
  @multi_step_lowers_teacher_loss,
  @gauss_newton_gram,
  @descent_derive,
  @multi_step_descent,
  @descent_ce_is_gradient_descent,
  @multi_step_cross_entropy,
  @descent_se_is_gradient_descent,
  @multi_step_squared_error,
  @filterdiff_scal_vanishing,
  @gram_bound,
  (* Vectors.v, Losses.v, Network.v *)
  @riesz,
  @grad_correct,
  @gradient_unique,
  @pull_vanishes_on_diagonal,
  @mixed_is_minus_hessian,
  @hessian_psd,
  @hessian_symmetric,
  @definite_hessian_null_space,
  @minimised_loss_update_is_negative_gradient,
  @lemma1_minimised_loss,
  @theorem1_minimised_loss,
  @mlp_differentiable,
  @mlp_cross_entropy,
  @mlp_squared_error,
  @tanh_differentiable,
  @relu_differentiable,
  @two_layer_tanh,
  (* Counterexamples.v *)
  @relu_kink,
  @sign_step,
  @frozen_part_negative,
  @weight_decay_sign_lost,
  @temperature_sign_lost,
  @null_space_needed,
  @single_step_sign_lost,
  @overshoot_sign_lost,
  @filter_flip,
  @exchange_needed).

Print Assumptions headline.
