#pragma once
#include <string>
#include <variant>

#include "cli/command.h"

namespace espq::cli {

/// "NAME=1x3x48x48". Throws std::invalid_argument.
NamedShape parse_named_shape(const std::string& text);
/// "NAME=FILE"; only the first '=' separates. Throws std::invalid_argument.
NamedFile parse_named_file(const std::string& text);

/// The command, or the exit code when there is nothing to do (help was printed, or the usage is wrong and was explained
/// on the error stream).
std::variant<CommandLine, int> parse_command_line(int argc, const char* const* argv);

}  // namespace espq::cli
