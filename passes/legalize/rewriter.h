#pragma once
#include <ATen/core/Tensor.h>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/graph/graph.h"
#include "core/ops/window.h"
#include "passes/legalize/legalize.h"

namespace espq {

/// Edits around one operation, the origin. It keeps its name, its width and (as the last of the chain or through
/// after()) the variable that it writes, so that recipes, graph outputs and readers find what they knew. Every new
/// variable has its shape.
class Rewriter {
 public:
  /// `origins` (may be null) learns what new operations were made for. `bits`: of the network. Where the origin has no
  /// width yet, new operations have none: assign_widths comes.
  Rewriter(Graph& graph, Operation& origin, Origins* origins, int bits = 8, const LegalizeOptions& options = {});

  Graph& graph() { return graph_; }
  Operation& origin() { return origin_; }
  const LegalizeOptions& options() const { return options_; }

  /// Shape of operand `slot` (UserError when it is not known).
  const Shape& shape(size_t slot) const;

  /// A parameter NAME_part.
  Variable& constant(std::string_view part, const at::Tensor& value);
  Variable& constant(std::string_view part, const std::vector<int64_t>& values);
  Variable& number(std::string_view part, double value);

  /// A new operation NAME_part; its result.
  Variable& add(std::string_view type, std::string_view part, const std::vector<Variable*>& inputs,
                AttributeMap attributes = {});
  /// A new operation between operand `slot` and the origin: reads what the origin read there, and `more`.
  Variable& before(size_t slot, std::string_view type, std::string_view part, const std::vector<Variable*>& more,
                   AttributeMap attributes = {});
  /// A new operation behind the origin: writes what the origin wrote, and reads `more` behind it. The shape of what the
  /// origin writes is computed anew.
  void after(std::string_view type, std::string_view part, const std::vector<Variable*>& more,
             AttributeMap attributes = {});
  /// The origin becomes another operator on other operands.
  void become(std::string_view type, const std::vector<Variable*>& inputs, AttributeMap attributes = {});

  /// The origin is made anew, with the outputs of the list: those that it has, and new ones for nullptr. Nothing may be
  /// done with the rewriter afterwards.
  void remake(std::vector<Variable*> outputs);

  /// The origin is taken away: what it wrote are the values of the list, one per output, from now on (entries of
  /// outputs that it does not have are ignored). The first takes over its name. Nothing may be done with the rewriter
  /// afterwards.
  void replace(const std::vector<Variable*>& values);

  /// `value` with its axis `axis` read at `indices` (none negative): by permuted rows of the linear layer in front
  /// where that is possible, else a Gather. `value` is operand 0 of the origin, or was made by this rewriter.
  Variable& pick(Variable& value, int64_t axis, const std::vector<int64_t>& indices, std::string_view part);
  /// The same behind the origin.
  void pick_after(int64_t axis, const std::vector<int64_t>& indices, std::string_view part);

  /// The origin, which moves elements of operand 0 along every axis by itself, becomes Gathers, one per axis. False
  /// when it moves nothing.
  bool become_gathers();

 private:
  Operation& make(std::string_view type, std::string_view part, const std::vector<Variable*>& inputs,
                  const std::vector<Variable*>& outputs, AttributeMap attributes);

  /// That of the origin; where only its operator is the reason for that (it has no grids, or no kernel of 16 bits), the
  /// one that the network gives the new operation.
  std::optional<Width> width_for(const Operation& made) const;
  void record_origin(const std::string& made, const std::string& origin);

  Graph& graph_;
  Operation& origin_;
  Origins* origins_;
  int bits_;
  LegalizeOptions options_;
  std::optional<Width> width_;  ///< of the origin as it was
  bool by_operator_ = false;
};

/// A Pad with zeros in front of the origin does what the window's padding did; the window has none afterwards.
void pad_in_front(Rewriter& rewriter, Window& window);

/// What the operation, whose other operands are constants, makes of an operand 0 of that shape that varies along `axis`
/// only, where it holds `values`: its result along that axis.
at::Tensor response(const Operation& operation, const Shape& input, int64_t axis, const at::Tensor& values);

/// A rewrite of operations of one type. Returns what it did ("Max became Add and Relu"), or nothing when the form is
/// not one that it knows.
using Rewrite = std::string (*)(Rewriter&);

struct RewriteRule {
  std::string_view type;
  Rewrite rewrite;
  bool always = false;  ///< tried on operations that run, too: what a file has to say, whatever else is true
};

// One list per family, each in the source of that name. A rule is tried on operations that are refused.
std::vector<RewriteRule> convolution_rewrites();
std::vector<RewriteRule> pooling_rewrites();
std::vector<RewriteRule> resize_rewrites();
std::vector<RewriteRule> movement_rewrites();
std::vector<RewriteRule> arithmetic_rewrites();
std::vector<RewriteRule> recurrent_rewrites();
std::vector<RewriteRule> cell_rewrites();
std::vector<RewriteRule> reduction_rewrites();
std::vector<RewriteRule> normalization_rewrites();

}  // namespace espq
