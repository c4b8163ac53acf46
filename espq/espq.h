#pragma once
/// Everything that a program needs which links espq::espq.
#include "core/data/dataset.h"
#include "core/exec/executor.h"
#include "core/graph/graph.h"
#include "core/ops/operator.h"
#include "core/support/error.h"
