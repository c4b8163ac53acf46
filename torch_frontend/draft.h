#pragma once
#include <string>
#include <unordered_map>
#include <vector>

#include "core/graph/graph.h"

namespace espq::torch_frontend {

/// Where something stands in the user's program.
struct Place {
  std::string module_path;  ///< "layer1.conv"; empty = the network itself
  std::string source;       ///< "model.py:12"; empty = not recorded
  std::string text() const;
};

/// The graph while it grows: operations in the order of the program, with everything that turns out to be read by
/// nobody.
class GraphDraft {
 public:
  Graph graph;

  /// "/layer1/conv/Conv", with a number when it is taken.
  std::string operation_name(const std::string& module_path, const std::string& type);
  std::string parameter_name(const std::string& module_path, const std::string& suffix);
  /// One operation with `outputs` new outputs.
  std::vector<Variable*> emit(const Place& place, const std::string& type, std::vector<Variable*> inputs,
                              AttributeMap attributes, size_t outputs);
  /// Operations that were emitted since the last call.
  std::vector<const Operation*> take_emitted();

  /// A new graph of what the outputs need, without unread trailing outputs, numbered without gaps.
  /// `renamed` receives the final name of every operation and variable that is left, by the draft's object.
  Graph finish(std::unordered_map<const void*, std::string>& renamed) const;

 private:
  std::unordered_map<std::string, int> name_counts_;
  std::vector<const Operation*> emitted_;
  std::unordered_map<const Operation*, std::string> base_names_;
};

}  // namespace espq::torch_frontend
