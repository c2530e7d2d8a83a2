// The kernels of plugins/*/kernel.py once more, program by program on the CPU, called as a driver is: by address.
//
// They show what no interpreter of Triton does: that the plugins hand over the right arguments, grid and workspace.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>

#include <immintrin.h>

namespace emulated {

// What a function of the empty library is called: NAME:TYPE:BLOCK.
struct Function {
    std::string name;
    bool isFp32, isFp16;
    int block;

    explicit Function(std::string const& symbol)
        : name(symbol.substr(0, symbol.find(':')))
        , isFp32(symbol.find(":fp32:") != std::string::npos)
        , isFp16(symbol.find(":fp16:") != std::string::npos)
        , block(std::stoi(symbol.substr(symbol.rfind(':') + 1)))
    {
    }
    size_t itemBytes() const { return isFp32 ? 4 : 2; }
    float load(void const* from, int64_t i) const
    {
        if (isFp32) {
            return static_cast<float const*>(from)[i];
        }
        uint16_t const bits = static_cast<uint16_t const*>(from)[i];
        if (isFp16) {
            return _cvtsh_ss(bits);
        }
        uint32_t const wide = uint32_t{bits} << 16;
        float found;
        memcpy(&found, &wide, sizeof found);
        return found;
    }
    void store(void* to, int64_t i, float value) const
    {
        uint32_t bits;
        memcpy(&bits, &value, sizeof bits);
        if (isFp32) {
            static_cast<float*>(to)[i] = value;
        } else if (isFp16) {
            static_cast<uint16_t*>(to)[i] = _cvtss_sh(value, 0);
        } else {
            static_cast<uint16_t*>(to)[i] = static_cast<uint16_t>((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
        }
    }
};

// The arguments of a launch, in order; the last two are the scratch memory that Triton asks for and gets none of.
class Arguments {
public:
    explicit Arguments(void** all)
        : mAll(all)
    {
    }
    template <class T>
    T next()
    {
        T value;
        memcpy(&value, *mAll++, sizeof value);
        return value;
    }
    bool endsWithoutScratch() { return !next<void*>() && !next<void*>(); }

private:
    void** mAll;
};

inline float score(Function const& f, void const* query, void const* key, int row, int column, int head, int heads, int group,
    int dim, int rows, float scale)
{
    float sum = 0;
    for (int i = 0; i < dim; ++i) {
        sum += f.load(query, (int64_t{row} * heads + head) * dim + i) * f.load(key, (int64_t{head / group} * rows + column) * dim + i);
    }
    return sum * scale;
}

inline bool rowLogSumExp(Function const& f, Arguments in, int x, int head)
{
    auto const *query = in.next<void*>(), *key = in.next<void*>();
    auto* const lse = in.next<float*>();
    int const rows = in.next<int>(), heads = in.next<int>(), group = in.next<int>(), dim = in.next<int>();
    float const scale = in.next<float>();
    for (int row = x * f.block; row < std::min((x + 1) * f.block, rows); ++row) {
        double sum = 0;
        for (int column = 0; column <= row; ++column) {
            sum += std::exp(score(f, query, key, row, column, head, heads, group, dim, rows, scale));
        }
        lse[int64_t{head} * rows + row] = static_cast<float>(std::log(sum));
    }
    return in.endsWithoutScratch();
}

inline bool columnMass(Function const& f, Arguments in, int x, int head)
{
    auto const *query = in.next<void*>(), *key = in.next<void*>();
    auto const* const lse = in.next<float*>();
    auto* const partial = in.next<float*>();
    int const rows = in.next<int>(), heads = in.next<int>(), group = in.next<int>(), dim = in.next<int>();
    float const scale = in.next<float>();
    for (int column = x * f.block; column < std::min((x + 1) * f.block, rows); ++column) {
        double sum = 0;
        for (int row = column; row < rows; ++row) {
            sum += std::exp(score(f, query, key, row, column, head, heads, group, dim, rows, scale) - lse[int64_t{head} * rows + row]);
        }
        partial[int64_t{head} * rows + column] = static_cast<float>(sum);
    }
    return in.endsWithoutScratch();
}

inline bool sumHeads(Function const& f, Arguments in, int x, int)
{
    auto const* const partial = in.next<float*>();
    auto* const mass = in.next<float*>();
    int const rows = in.next<int>(), heads = in.next<int>();
    for (int row = x * f.block; row < std::min((x + 1) * f.block, rows); ++row) {
        mass[row] = 0;
        for (int head = 0; head < heads; ++head) {
            mass[row] += partial[int64_t{head} * rows + row];
        }
    }
    return in.endsWithoutScratch();
}

inline bool edgeSimilarity(Function const& f, Arguments in, int edge, int)
{
    auto const* const key = in.next<void*>();
    auto* const similarity = in.next<float*>();
    int const rows = in.next<int>(), start = in.next<int>(), length = in.next<int>(), heads = in.next<int>(), dim = in.next<int>();
    double dot = 0, left = 0, right = 0;
    for (int head = 0; head < heads; ++head) {
        for (int i = 0; i < dim; ++i) {
            double const a = f.load(key, (int64_t{head} * rows + start + edge) * dim + i);
            double const b = f.load(key, (int64_t{head} * rows + start + edge + 1) * dim + i);
            dot += a * b;
            left += a * a;
            right += b * b;
        }
    }
    similarity[edge] = static_cast<float>(dot / std::sqrt(left * right));
    return edge < length - 1 && in.endsWithoutScratch();
}

inline bool chooseRows(Function const& f, Arguments in, int x, int)
{
    auto const* const given = in.next<float*>();
    auto* const stays = in.next<int32_t*>();
    int const rows = in.next<int>(), first = in.next<int>(), count = in.next<int>(), removed = in.next<int>();
    float const sign = in.next<float>();
    for (int row = x * f.block; row < std::min((x + 1) * f.block, rows); ++row) {
        int const place = row - first;
        int rank = 0;
        for (int other = 0; other < count && place >= 0 && place < count; ++other) {
            float const mine = given[place] * sign, value = given[other] * sign;
            rank += value > mine || (value == mine && other < place);
        }
        stays[row] = !(place >= 0 && place < count && rank < removed);
    }
    return in.endsWithoutScratch();
}

inline bool rowStarts(Function const&, Arguments in, int, int)
{
    auto const* const stays = in.next<int32_t*>();
    auto* const starts = in.next<int32_t*>();
    int const rows = in.next<int>(), kept = in.next<int>();
    int found = 0;
    for (int row = 0; row < rows; ++row) {
        if (stays[row]) {
            starts[found++] = row;
        }
    }
    starts[kept] = rows;
    return found == kept && in.endsWithoutScratch();
}

inline bool mergeRows(Function const& f, Arguments in, int cluster, int y)
{
    auto const* const hidden = in.next<void*>();
    auto const* const weight = in.next<float*>();
    auto const* const starts = in.next<int32_t*>();
    auto* const merged = in.next<void*>();
    int const width = in.next<int>();
    for (int column = y * f.block; column < std::min((y + 1) * f.block, width); ++column) {
        double sum = 0, total = 0;
        for (int row = starts[cluster]; row < starts[cluster + 1]; ++row) {
            sum += double{weight[row]} * f.load(hidden, int64_t{row} * width + column);
            total += weight[row];
        }
        f.store(merged, int64_t{cluster} * width + column, static_cast<float>(sum / total));
    }
    return in.endsWithoutScratch();
}

inline bool copyRows(Function const& f, Arguments in, int x, int y)
{
    auto const* const hidden = in.next<char*>();
    auto const* const starts = in.next<int32_t*>();
    auto* const copied = in.next<char*>();
    int const width = in.next<int>();
    int const first = y * f.block;
    size_t const item = f.itemBytes();
    int const count = std::min(f.block, width - first);
    memcpy(copied + (int64_t{x} * width + first) * item, hidden + (int64_t{starts[x]} * width + first) * item, count * item);
    return in.endsWithoutScratch();
}

// All programs of a grid; false where the arguments are not those of the kernel.
inline bool launch(std::string const& symbol, unsigned gridX, unsigned gridY, void** arguments)
{
    using Program = bool (*)(Function const&, Arguments, int, int);
    static std::map<std::string, Program> const kPrograms{{"row_log_sum_exp", rowLogSumExp}, {"column_mass", columnMass},
        {"sum_heads", sumHeads}, {"edge_similarity", edgeSimilarity}, {"choose_rows", chooseRows}, {"row_starts", rowStarts},
        {"merge_rows", mergeRows}, {"copy_rows", copyRows}};
    Function const function(symbol);
    bool right = true;
    for (unsigned y = 0; y < gridY; ++y) {
        for (unsigned x = 0; x < gridX; ++x) {
            right = kPrograms.at(function.name)(function, Arguments(arguments), x, y) && right;
        }
    }
    return right;
}

}  // namespace emulated
