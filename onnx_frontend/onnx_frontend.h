#pragma once
#include <filesystem>
#include <map>
#include <string>
#include <string_view>

#include "core/graph/graph.h"

namespace espq {

struct OnnxImportOptions {
  /// Shapes of graph inputs by name: they bind dimensions that the file leaves open, and must agree with the others.
  std::map<std::string, Shape> input_shapes;
};

/// The float graph of an ONNX file: any IR version, opset 7 to 24 of the default domain, external data inside the
/// model's folder. Whatever differs between opsets is brought to opset 18, omitted attributes get their defaults,
/// Constant nodes and initializers become parameters, float16, bfloat16 and double become float32. Operations keep the
/// file's order, variables that of their first appearance. The file is never written to.
/// Throws UserError naming the file and the node, input or tensor: damaged files, operators that espq does not have
/// (all of them at once), subgraphs, inputs without a fixed shape, networks that are quantized already.
Graph import_onnx(const std::filesystem::path& file, const OnnxImportOptions& options = {});

/// The same from memory: `name` stands in messages, external data is looked for in `folder`.
Graph import_onnx_bytes(std::string_view bytes, const std::string& name, const std::filesystem::path& folder,
                        const OnnxImportOptions& options = {});

}  // namespace espq
