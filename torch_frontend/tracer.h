#pragma once
#include <ATen/core/function_schema.h>
#include <ATen/core/ivalue.h>

#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "core/support/error.h"
#include "torch_frontend/draft.h"

namespace espq::torch_frontend {

/// float32 for all floating types: the chips know no other.
at::ScalarType graph_dtype(at::ScalarType dtype);

/// What an operator of the file became, for the comparison with LibTorch.
struct CallRecord {
  std::string target;
  Place place;
  std::vector<const Operation*> operations;
  std::vector<Variable*> results;
};

/// Runs a network operator by operator on example values and writes down, as operations of a graph, whatever depends on
/// the inputs' values. Everything else (sizes, indices, masks made of sizes, parameters) is a constant, known here.
///
/// The tensors that flow are LibTorch's own: a tensor that depends on the inputs is known by its address and has a
/// variable of the graph. So lists, tuples and dictionaries of the program need no model here.
/// Writing in place replaces the variable of the written tensor; what shares its memory is derived from it when it is
/// read next.
class Tracer {
 public:
  explicit Tracer(bool record) : record_(record) {}

  GraphDraft draft;

  // --- what the readers call
  // ------------------------------------------------------------------------------------------
  void add_input(const std::string& name, const at::Tensor& example);
  enum class Origin {
    File,  ///< a parameter or buffer, the same in every run: the network must not write to it
    Run,
  };
  /// Name of a parameter or buffer; the first name stays.
  void name_constant(const at::Tensor& constant, const std::string& name, Origin origin = Origin::File);
  void add_output(const std::string& name, const at::Tensor& value, const Place& place);
  /// Does any tensor in it depend on the inputs' values?
  bool varies(const c10::IValue& value) const;
  /// Runs `kernel` on the last `count` values of the stack, the arguments of `schema`, and traces it.
  /// Throws UserError where the trace cannot go on: a number that depends on values.
  void call(const c10::FunctionSchema& schema, size_t count, const std::function<void(torch::jit::Stack&)>& kernel,
            torch::jit::Stack& stack, const Place& place);
  /// An operator that LibTorch does not have here. Nothing can follow it.
  void refuse(const Place& place, const std::string& target, const std::string& reason);
  /// All refusals in one UserError; nothing when there are none.
  void check_refusals() const;

  /// Nothing more will be traced: lets go of the program's tensors. The graph and what was recorded stay.
  void release();

  const std::vector<CallRecord>& records() const { return records_; }
  /// Values of LibTorch by variable, when recording.
  const std::unordered_map<const Variable*, at::Tensor>& values() const { return values_; }

  // --- what the mappings call (through Call)
  // ----------------------------------------------------------------------------
  /// The variable that holds the tensor now: a parameter when it is a constant.
  Variable* variable(const at::Tensor& tensor, const Place& place);
  bool is_constant(const at::Tensor& tensor) const { return !find_cell(tensor); }
  std::vector<Variable*> emit(const Place& place, const std::string& type, std::vector<Variable*> inputs,
                              AttributeMap attributes, size_t outputs = 1) {
    return draft.emit(place, type, std::move(inputs), std::move(attributes), outputs);
  }
  /// A constant with a copy of the value, which the program may write to later on.
  Variable* parameter(const Place& place, const std::string& suffix, const at::Tensor& value);

 private:
  struct Cell {
    at::Tensor tensor;  // keeps the address taken
    Variable* variable = nullptr;
    int64_t version = 0;  // of its memory, when the variable was made
  };
  /// Memory that was written in place: the tensor that stands for all of it.
  struct Memory {
    at::Tensor base;
    int64_t version = 0;
  };
  struct Constant {
    at::Tensor tensor;
    std::string name;
    Variable* variable = nullptr;
  };
  /// Memory of a parameter or buffer.
  struct Kept {
    at::Tensor tensor;  // keeps the address taken
    std::string name;
    bool shared = false;  // with a parameter of the graph
  };
  struct Refusal {
    std::string target, reason;
    std::vector<Place> places;
  };

  bool record_;
  std::unordered_map<const c10::TensorImpl*, Cell> cells_;
  std::unordered_map<const c10::StorageImpl*, Memory> memories_;
  std::unordered_map<const c10::TensorImpl*, Constant> constants_;
  std::unordered_map<const c10::StorageImpl*, Kept> kept_;
  std::vector<Refusal> refusals_;
  std::vector<CallRecord> records_;
  std::unordered_map<const Variable*, at::Tensor> values_;
  std::unordered_map<const Variable*, std::string>
      unsupported_;  // results that a mapping does not give, with the reason

  bool find_cell(const at::Tensor& tensor) const;
  void bind(const at::Tensor& tensor, Variable* variable);
  void record_value(Variable* variable, const at::Tensor& tensor);
  bool is_tensor_operator(const c10::FunctionSchema& schema, const std::vector<c10::IValue>& arguments) const;
  [[noreturn]] void fail(const Place& place, const std::string& name, const std::string& reason) const;
  void check_written(const at::Tensor& written, const std::string& name, const Place& place) const;
  at::Tensor constant_value(const at::Tensor& constant);
  void forget_constants(const at::Tensor& written);
  void trace(const c10::FunctionSchema& schema, std::vector<c10::IValue> arguments,
             const std::vector<at::Tensor>& written, const std::function<void(torch::jit::Stack&)>& kernel,
             torch::jit::Stack& stack, const Place& place);
  // in_place.cpp
  void prepare_write(const at::Tensor& written, const Place& place);
  void write(const at::Tensor& written, Variable* value, const Place& place);
  Variable* read_through(const at::Tensor& view, Memory& memory, const Place& place);
};

/// Tensors in a value, in order, through lists, tuples and dictionaries.
std::vector<at::Tensor> tensors_in(const c10::IValue& value);

/// Variable of the region `view` of a tensor: both share memory, `whole` is contiguous.
Variable* read_region(Tracer& tracer, const Place& place, const at::Tensor& whole, Variable* source,
                      const at::Tensor& view);
/// Variable of `whole` after `value` was written to its region `view`.
Variable* write_region(Tracer& tracer, const Place& place, const at::Tensor& whole, Variable* target,
                       const at::Tensor& view, Variable* value);

}  // namespace espq::torch_frontend
