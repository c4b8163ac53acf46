#pragma once
#include <string>
#include <vector>

#include "passes/simplify/fold_batch_normalization.h"

namespace espq {

/// A BatchNormalization that conversion folds into the Conv or Gemm in front of it, as it was before.
struct BatchNormalization {
  std::string name;          ///< of its operation
  std::string producer;      ///< name of the Conv or Gemm
  at::Tensor weight;         ///< of the producer, float32
  at::Tensor producer_bias;  ///< of the producer: float64 [channels], zeros where it has none
  Normalization normalization;
};

/// All of them, in graph order. To be read off the float network; TrainOptions take them.
/// Those behind a ConvTranspose or behind no linear operation are not among them: they are always folded.
std::vector<BatchNormalization> batch_normalizations(const Graph& network);

/// A BatchNormalization kept while its folded form is trained. Weight and bias of the producer are computed from the
/// parameters of both; with batch statistics the result of the producer is normalized anew, as LibTorch's
/// torch::nn::BatchNorm does in training:
///   W' = W s, s = gamma / sqrt(running variance + epsilon), rounded as always; z = (W' x) / s + bias;
///   result = gamma (z - mean(z)) / sqrt(variance(z) + epsilon) + beta, and the running statistics follow.
/// With running statistics, result = W' x + b' with b' = gamma (bias - mean) / sqrt(variance + epsilon) + beta: what
/// the chip computes.
class KeptNormalization {
 public:
  /// `graph`: the quantized graph, whose producer must hold the folded weight and bias. Throws UserError naming the
  /// operation when it does not.
  KeptNormalization(Graph& graph, const BatchNormalization& kept, double share_of_batch);

  const Operation& producer() const { return *producer_; }
  Variable* weight_variable() const { return weight_variable_; }
  Variable* bias_variable() const { return bias_variable_; }
  /// Parameters: weight of the producer, gamma, beta (float32 leaves), and running mean and variance.
  const std::string& name() const { return name_; }
  at::Tensor weight;
  Normalization normalization;
  double momentum;  ///< share of a batch in the running statistics

  /// What the producer computes with: set by fold(), with running statistics.
  at::Tensor folded_weight, folded_bias;
  void fold();
  /// Writes them into the graph.
  void store();
  /// To be called after fold(): the producer gives a result without bias, which normalize() turns into that of the
  /// BatchNormalization by the statistics of the batch.
  void use_batch_statistics();
  at::Tensor normalize(const at::Tensor& result);

 private:
  std::string name_;
  const Operation* producer_ = nullptr;
  Variable *weight_variable_ = nullptr, *bias_variable_ = nullptr;
  int row_axis_ = 0;  ///< of the weight's output channels
  at::Tensor producer_bias_, scale_;
};

}  // namespace espq
