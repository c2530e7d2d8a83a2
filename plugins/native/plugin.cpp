// The checks of element types and shapes that all plugins share.
#include "plugin.h"

#include <cstdint>
#include <string>

namespace fastadasp {
namespace {

std::string text(Dims const& dims)
{
    std::string found = "(";
    for (int32_t i = 0; i < dims.nbDims; ++i) {
        found += (i ? ", " : "") + std::to_string(dims.d[i]);
    }
    return found + ")";
}

std::string text(Input const* table, int32_t size)
{
    std::string found;
    for (int32_t i = 0; i < size; ++i) {
        found += std::string(i ? ", " : "") + table[i].name + " " + table[i].axes;
    }
    return found;
}

}  // namespace

char const* elementType(DataType type)
{
    switch (type) {
    case DataType::kFLOAT: return "fp32";
    case DataType::kHALF: return "fp16";
    case DataType::kBF16: return "bf16";
    default: return nullptr;
    }
}

size_t elementBytes(DataType type) { return type == DataType::kFLOAT ? 4 : 2; }

bool isOfKind(PluginTensorDesc const& tensor, Kind kind, PluginTensorDesc const& first)
{
    bool const fits = kind == Kind::kFloat ? tensor.type == DataType::kFLOAT
        : kind == Kind::kInt64             ? tensor.type == DataType::kINT64
                                           : elementType(tensor.type) != nullptr;
    bool const isLikeFirst = kind != Kind::kActivation || tensor.type == first.type;
    return fits && isLikeFirst && tensor.format == TensorFormat::kLINEAR;
}

int32_t headBlockOf(int64_t headDim)
{
    for (int32_t block : {64, 128}) {
        if (headDim <= block) {
            return block;
        }
    }
    report("head_dim is %ld; the kernels hold heads of at most 128", static_cast<long>(headDim));
    return 0;
}

bool haveRanks(char const* plugin, Input const* table, int32_t size, DimsExprs const* inputs, int32_t count)
{
    bool fits = count == size;
    for (int32_t i = 0; fits && i < size; ++i) {
        fits = inputs[i].nbDims == table[i].rank;
    }
    if (!fits) {
        report("%s takes %s", plugin, text(table, size).c_str());
    }
    return fits;
}

bool haveEqualRows(char const* plugin, Input const* table, int32_t size, PluginTensorDesc const* inputs)
{
    for (int32_t i = 1; i < size; ++i) {
        int32_t const axis = table[i].rowsAxis;
        if (axis >= 0 && inputs[i].dims.d[axis] != inputs[0].dims.d[table[0].rowsAxis]) {
            report("%s: %s %s and %s %s do not have equally many rows", plugin, table[0].name,
                text(inputs[0].dims).c_str(), table[i].name, text(inputs[i].dims).c_str());
            return false;
        }
    }
    return true;
}

bool isCountable(char const* plugin, Input const& input, Dims const& dims)
{
    int64_t left = INT32_MAX;
    for (int32_t i = 0; i < dims.nbDims; ++i) {
        left /= dims.d[i] > 1 ? dims.d[i] : 1;
    }
    if (!left) {
        report("%s: %s %s has more than 2^31 - 1 elements, which the kernels cannot count; give shorter audio", plugin,
            input.name, text(dims).c_str());
    }
    return left;
}

}  // namespace fastadasp
