#pragma once
/// Everything that a program needs which links espq::espq.
#include "core/analysis/compare.h"
#include "core/analysis/comparison_report.h"
#include "core/analysis/error_analysis.h"
#include "core/analysis/statistics.h"
#include "core/data/dataset.h"
#include "core/exec/executor.h"
#include "core/graph/graph.h"
#include "core/ops/operator.h"
#include "core/support/error.h"
#include "core/support/file.h"
#include "export/conversion/recipe.h"
#include "export/conversion/test_values.h"
#include "export/conversion/verify.h"
#include "export/espdl/reader.h"
#include "export/export.h"
#include "export/html/comparison_page.h"
#include "passes/lowering/lower.h"
#include "passes/pipeline.h"
#ifndef ESPQ_WITHOUT_ONNX
#include "export/onnx/onnx_export.h"
#include "onnx_frontend/onnx_frontend.h"
#endif
