// The plugin AttentionMass: column sums of causal attention, see plugins/causal_attention.
#include <algorithm>
#include <cmath>

#include "plugin.h"

namespace fastadasp {
namespace {

class AttentionMass final : public Plugin<AttentionMass> {
public:
    static constexpr char const* kName = "AttentionMass";
    static constexpr Input kInputs[] = {{"query", "(rows, heads * head_dim)", 2, Kind::kActivation, 0},
        {"key", "(kv_heads, rows, head_dim)", 3, Kind::kActivation, 1}};
    static constexpr Kind kOutput = Kind::kFloat;

    void outputShape(DimsExprs const* inputs, DimsExprs& mass, IExprBuilder&) const
    {
        mass.nbDims = 1;
        mass.d[0] = inputs[0].d[0];
    }
    bool check(PluginTensorDesc const* inputs) const
    {
        Sizes const sizes(inputs[0].dims, inputs[1].dims);
        if (sizes.heads * sizes.headDim != inputs[0].dims.d[1] || sizes.heads % sizes.kvHeads) {
            report("AttentionMass: query rows of %ld are not whole heads of %d for %d key heads",
                long(inputs[0].dims.d[1]), sizes.headDim, sizes.kvHeads);
            return false;
        }
        return headBlockOf(sizes.headDim);
    }
    size_t getWorkspaceSize(DynamicPluginTensorDesc const* inputs, int32_t, DynamicPluginTensorDesc const*,
        int32_t) const noexcept override
    {
        Workspace space;
        Arrays(space, Sizes(inputs[0].max, inputs[1].max));
        return space.used;
    }
    PluginFieldCollection const* getFieldsToSerialize() noexcept override { return &mNoFields; }
    int32_t enqueue(PluginTensorDesc const* inputs, PluginTensorDesc const*, void const* const* in, void* const* out,
        void* workspace, cudaStream_t stream) noexcept override;

private:
    struct Sizes {
        int32_t rows, heads, kvHeads, headDim;
        Sizes(Dims const& query, Dims const& key)
            : rows(query.d[0])
            , heads(query.d[1] / std::max<int64_t>(key.d[2], 1))
            , kvHeads(std::max<int64_t>(key.d[0], 1))
            , headDim(key.d[2])
        {
        }
    };
    struct Arrays {
        float *logSumExp, *partial;  // (heads, rows) each
        Arrays(Workspace& space, Sizes const& sizes)
            : logSumExp(space.take<float>(int64_t{sizes.heads} * sizes.rows))
            , partial(space.take<float>(int64_t{sizes.heads} * sizes.rows))
        {
        }
    };
    PluginFieldCollection mNoFields{0, nullptr};
};

int32_t AttentionMass::enqueue(PluginTensorDesc const* inputs, PluginTensorDesc const*, void const* const* in,
    void* const* out, void* workspace, cudaStream_t stream) noexcept
{
    Sizes const sizes(inputs[0].dims, inputs[1].dims);
    Workspace space{0, static_cast<char*>(workspace)};
    Arrays const arrays(space, sizes);
    int32_t const group = sizes.heads / sizes.kvHeads;
    float const scale = 1.0F / std::sqrt(static_cast<float>(sizes.headDim));
    int32_t const headBlock = headBlockOf(sizes.headDim);
    char const* const type = elementType(inputs[0].type);
    Launcher logSumExp{};
    Launcher columns{};
    Launcher sum{};
    bool const found = headBlock && findKernel(logSumExp, "row_log_sum_exp", type, headBlock, stream)
        && findKernel(columns, "column_mass", type, headBlock, stream)
        && findKernel(sum, "sum_heads", "", 0, stream);
    bool const done = found
        && logSumExp(logSumExp.programs(sizes.rows), sizes.heads,
            {&in[0], &in[1], &arrays.logSumExp, &sizes.rows, &sizes.heads, &group, &sizes.headDim, &scale})
        && columns(columns.programs(sizes.rows), sizes.heads,
            {&in[0], &in[1], &arrays.logSumExp, &arrays.partial, &sizes.rows, &sizes.heads, &group, &sizes.headDim,
                &scale})
        && sum(sum.programs(sizes.rows), 1, {&arrays.partial, &out[0], &sizes.rows, &sizes.heads});
    return done ? 0 : 1;
}

class AttentionMassCreator final : public Creator<AttentionMass> {
public:
    PluginFieldCollection const* getFieldNames() noexcept override { return &mNoFields; }
    IPluginV3* createPlugin(AsciiChar const*, PluginFieldCollection const*, TensorRTPhase) noexcept override
    {
        return new AttentionMass();
    }

private:
    PluginFieldCollection mNoFields{0, nullptr};
};

}  // namespace

IPluginCreatorV3One& attentionMassCreator()
{
    static AttentionMassCreator creator;
    return creator;
}

}  // namespace fastadasp
