#pragma once
#include <optional>
#include <string>
#include <vector>

#include "core/data/dataset.h"
#include "core/graph/graph.h"
#include "tests/onnx_frontend/onnx_model_builder.h"
#include "tests/random_networks/random.h"

// How one network is drawn: nodes of an ONNX model are added one by one, each on what the nodes before it gave.
namespace espq::random_networks {

/// A tensor that later nodes can read.
struct Value {
  std::string name;
  Shape shape = {};
  at::ScalarType dtype = at::kFloat;
  double lowest = 0, highest = 0;  ///< over the calibration data

  int64_t rank() const { return static_cast<int64_t>(shape.size()); }
  int64_t elements() const { return c10::multiply_integers(shape); }
};

using Attributes = std::vector<onnx_file::Attribute>;

class Drawing {
 public:
  explicit Drawing(uint64_t seed);

  Random random;

  // ------------------------------------------------------------------------------------------------ operands
  /// A float tensor of one of these ranks (empty: of any), the newest one by preference, or a new graph input. nullopt
  /// when there is nothing suitable.
  std::optional<Value> operand(const std::vector<int64_t>& ranks = {});
  /// One that exists and has that dtype.
  std::optional<Value> existing(at::ScalarType dtype);
  /// One that exists and that broadcasts against the shape without changing it.
  std::optional<Value> existing_for(const Shape& shape);
  Value graph_input(const Shape& shape);
  Shape shape(int64_t rank);

  // ------------------------------------------------------------------------------------------------ constants
  /// The name of a new constant of the next node.
  std::string constant(const at::Tensor& value);
  std::string integers(const std::vector<int64_t>& values);
  /// Normally distributed, each row (first axis) with a size of its own now and then.
  at::Tensor weights(const Shape& shape, int64_t fan_in);

  // ------------------------------------------------------------------------------------------------ nodes
  /// Adds a node called nNUMBER_TYPE.
  void node(const std::string& type, std::vector<std::string> inputs, Attributes attributes = {}, int64_t outputs = 1);
  /// The same, of whose outputs only those that are wanted have names.
  void node_with(const std::string& type, std::vector<std::string> inputs, Attributes attributes,
                 const std::vector<bool>& wanted);
  /// The network needs this opset. False when it was drawn for an older one.
  bool needs_opset(int64_t opset);
  int64_t opset() const { return state_.model.opsets.at(""); }
  int64_t nodes() const { return static_cast<int64_t>(state_.model.nodes.size()); }

  /// An axis of a tensor of that rank, from either end.
  int64_t axis(int64_t rank) { return random.integer(-rank, rank - 1); }

  // ------------------------------------------------------------------------------------------------ progress
  struct State {
    onnx_file::Model model;
    std::vector<Value> values;
    std::vector<Dataset::Batch> batches;
    int64_t constants = 0;
    std::optional<int64_t> fixed_opset = std::nullopt;
  };
  const State& state() const { return state_; }
  void restore(State state) { state_ = std::move(state); }

  enum class Result {
    Good,     ///< values of the new node are known
    Useless,  ///< it cannot be computed, or what it gives is not finite, huge or empty
    Refused,  ///< the importer does not take the network
    Broken,   ///< it threw something that is no UserError: a finding
  };
  /// Runs what there is.
  Result evaluate();
  /// Makes outputs of what no node reads, and now and then of something else.
  void finish();

 private:
  State state_;
  at::Tensor input_values(const Shape& shape, int64_t kind);
};

}  // namespace espq::random_networks
