#pragma once
#include "cli/command.h"

namespace espq::cli {

// One per file. Each returns the exit code and throws UserError.
int quantize(const QuantizeCommand& command);
int check(const CheckCommand& command);
int run(const RunCommand& command);
int evaluate(const EvaluateCommand& command);
int import(const ImportCommand& command);
int inspect(const InspectCommand& command);
int diff(const DiffCommand& command);
int verify(const VerifyCommand& command);
int compare(const CompareCommand& command);
int ops(const OpsCommand& command);

}  // namespace espq::cli

/// Entry point of the verbs library: runs the command, reports errors on the error stream, returns the exit code.
extern "C" int espq_execute(const espq::cli::CommandLine& line);
