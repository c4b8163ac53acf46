#pragma once
#include <string>
#include <variant>

#include "cli/command.h"

namespace espq::cli {

/// "NAME=1x3x48x48". Throws std::invalid_argument.
NamedShape parse_named_shape(const std::string& text);
/// "NAME=FILE"; only the first '=' separates. Throws std::invalid_argument.
NamedFile parse_named_file(const std::string& text);

/// "224x160" (width x height) or "224" for a square. Throws std::invalid_argument.
PixelSize parse_pixel_size(const std::string& text);
/// "0.25" or "1/255". Throws std::invalid_argument.
double parse_number(const std::string& text);

/// "normal" or "-1..1". Throws std::invalid_argument.
DrawnInputs parse_drawn_inputs(const std::string& text);

/// The command, or the exit code when there is nothing to do (help was printed, or the usage is wrong and was explained
/// on the error stream).
std::variant<CommandLine, int> parse_command_line(int argc, const char* const* argv);

}  // namespace espq::cli
