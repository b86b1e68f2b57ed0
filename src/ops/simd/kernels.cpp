#include "ops/simd/kernels.hpp"

#include <algorithm>
#include <cstring>

// Compiles what follows once for each instruction set; those left out gain nothing here.
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_AVX3_DL)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/simd/kernels.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace diffuse::kernels::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

using Panel = hn::CappedTag<float, kPanel>;    // products, and transforms of so many channels
using Wide = hn::CappedTag<float, kChannels>;  // transforms of what is left
constexpr Panel kPanelTag;
constexpr Wide kWide;
constexpr int64_t kStep = int64_t(hn::MaxLanes(kWide));

/// Calls work(tag, c) for channels c, c + 1, .. of as many lanes as the tag has, up to `channels`, a multiple of
/// kChannels.
template <class Work>
HWY_INLINE void for_channels(int64_t channels, const Work& work) {
    constexpr int64_t kFull = int64_t(hn::MaxLanes(kPanelTag));
    int64_t c = 0;
    for (; c + kFull <= channels; c += kFull) work(kPanelTag, c);
    for (; c < channels; c += kStep) work(kWide, c);
}

template <class V>
HWY_INLINE V times(float factor, V x) {
    return hn::Mul(hn::Set(hn::DFromV<V>(), factor), x);
}
template <class V>
HWY_INLINE V plus_times(V y, float factor, V x) {
    return hn::MulAdd(hn::Set(hn::DFromV<V>(), factor), x, y);
}

/// exp(u), to 2e-7. exp(u) = 2^n 2^f with n whole and |f| <= 1/2; 2^f by its Taylor polynomial, whose next term is
/// below float32's rounding; 2^n by adding n to the exponent. Beyond |u| = 87 the result is that at 87.
template <class V>
HWY_INLINE V exponential(V u) {
    constexpr hn::DFromV<V> d;
    constexpr hn::RebindToSigned<hn::DFromV<V>> whole;
    const V bounded = hn::Min(hn::Max(u, hn::Set(d, -87.0f)), hn::Set(d, 87.0f));
    const V power = times(1.44269504f, bounded), n = hn::Round(power), f = hn::Sub(power, n);
    V e = hn::Set(d, 1.5403530e-4f);
    for (const float coefficient : {1.3333558e-3f, 9.6181291e-3f, 5.5504109e-2f, 0.24022651f, 0.69314718f, 1.0f}) {
        e = hn::MulAdd(e, f, hn::Set(d, coefficient));
    }
    const auto exponent = hn::ShiftLeft<23>(hn::ConvertTo(whole, n));
    return hn::BitCast(d, hn::Add(hn::BitCast(whole, e), exponent));
}

/// 1 / (1 + exp(-u)).
template <class V>
HWY_INLINE V sigmoid(V u) {
    constexpr hn::DFromV<V> d;
    const V e = exponential(hn::Neg(u));
    // The approximate reciprocal would take as long, with Newton's step that it needs, and differs by the CPU's maker.
    return hn::Div(hn::Set(d, 1.0f), hn::Add(hn::Set(d, 1.0f), e));
}

// B^T, A^T, A, G and G^T of F(4x4, 3x3) (Lavin & Gray 2016, section 4.3), applied to one column or row of a tile.

template <class V>
HWY_INLINE void times_bt(const V (&d)[6], V (&t)[6]) {
    const V even = plus_times(d[4], -4, d[2]), odd = plus_times(d[3], -4, d[1]);
    const V even2 = hn::Sub(d[4], d[2]), odd2 = times(2, hn::Sub(d[3], d[1]));
    t[0] = plus_times(plus_times(d[4], -5, d[2]), 4, d[0]);
    t[1] = hn::Add(even, odd);
    t[2] = hn::Sub(even, odd);
    t[3] = hn::Add(even2, odd2);
    t[4] = hn::Sub(even2, odd2);
    t[5] = plus_times(plus_times(d[5], -5, d[3]), 4, d[1]);
}

template <class V>
HWY_INLINE void times_at(const V (&m)[6], V (&y)[4]) {
    const V sum1 = hn::Add(m[1], m[2]), difference1 = hn::Sub(m[1], m[2]);
    const V sum2 = hn::Add(m[3], m[4]), difference2 = hn::Sub(m[3], m[4]);
    y[0] = hn::Add(m[0], hn::Add(sum1, sum2));
    y[1] = plus_times(difference1, 2, difference2);
    y[2] = plus_times(sum1, 4, sum2);
    y[3] = hn::Add(plus_times(difference1, 8, difference2), m[5]);
}

template <class V>
HWY_INLINE void times_a(const V (&y)[4], V (&m)[6]) {
    const V even = hn::Add(y[0], y[2]), odd = hn::Add(y[1], y[3]);
    const V even2 = plus_times(y[0], 4, y[2]), odd2 = plus_times(times(2, y[1]), 8, y[3]);
    m[0] = y[0];
    m[1] = hn::Add(even, odd);
    m[2] = hn::Sub(even, odd);
    m[3] = hn::Add(even2, odd2);
    m[4] = hn::Sub(even2, odd2);
    m[5] = y[3];
}

template <class V>
HWY_INLINE void times_g(const V (&g)[3], V (&t)[6]) {
    const V ends = hn::Add(g[0], g[2]), wide_ends = plus_times(times(1.0f / 24, g[0]), 1.0f / 6, g[2]);
    const V middle = times(1.0f / 12, g[1]);
    t[0] = times(1.0f / 4, g[0]);
    t[1] = times(-1.0f / 6, hn::Add(ends, g[1]));
    t[2] = times(-1.0f / 6, hn::Sub(ends, g[1]));
    t[3] = hn::Add(wide_ends, middle);
    t[4] = hn::Sub(wide_ends, middle);
    t[5] = g[2];
}

template <class V>
HWY_INLINE void times_gt(const V (&u)[6], V (&g)[3]) {
    const V sum1 = hn::Add(u[1], u[2]), sum2 = hn::Add(u[3], u[4]);
    g[0] = plus_times(plus_times(times(1.0f / 4, u[0]), -1.0f / 6, sum1), 1.0f / 24, sum2);
    g[1] = plus_times(times(1.0f / 6, hn::Sub(u[2], u[1])), 1.0f / 12, hn::Sub(u[3], u[4]));
    g[2] = hn::Add(plus_times(times(-1.0f / 6, sum1), 1.0f / 6, sum2), u[5]);
}

void TransformWeights(const float* weights, int64_t out, int64_t in, bool backward, float* packed) {
    using V = hn::Vec<Wide>;
    const int64_t rows = backward ? out : in, columns = backward ? in : out;
    const int64_t padded_rows = round_up(rows, kChannels), padded_columns = round_up(columns, kPanel);
    const int64_t row_step = backward ? 9 * in : 1, column_step = backward ? 1 : 9 * in;
    constexpr hn::RebindToSigned<Wide> whole;
    const auto places = hn::Mul(hn::Iota(whole, 0), hn::Set(whole, int32_t(column_step)));
    for (int64_t column = 0; column < padded_columns; column += kStep) {
        const int64_t count = std::clamp<int64_t>(columns - column, 0, kStep);
        for (int64_t row = 0; row < padded_rows; ++row) {
            float* to = packed + (column / kPanel * kPoints * padded_rows + row) * kPanel + column % kPanel;
            V half[6][3];
            for (int64_t l = 0; l < 3; ++l) {
                V g[3], t[6];
                for (int64_t k = 0; k < 3; ++k) {
                    const int64_t tap = backward ? 8 - 3 * k - l : 3 * k + l;
                    const float* from = weights + tap * in + row * row_step + column * column_step;
                    if (count == kStep && row < rows) {
                        g[k] = backward ? hn::LoadU(kWide, from) : hn::GatherIndex(kWide, from, places);
                    } else {
                        float values[kChannels] = {};
                        for (int64_t i = 0; i < count && row < rows; ++i) values[i] = from[i * column_step];
                        g[k] = hn::LoadU(kWide, values);
                    }
                }
                times_g(g, t);
                for (int64_t a = 0; a < 6; ++a) half[a][l] = t[a];
            }
            for (int64_t a = 0; a < 6; ++a) {
                V t[6];
                times_g(half[a], t);
                for (int64_t b = 0; b < 6; ++b) hn::StoreU(t[b], kWide, to + (6 * a + b) * padded_rows * kPanel);
            }
        }
    }
}

/// The first `count` of v's numbers, added.
template <class V>
HWY_INLINE void AddTo(float* to, V v, int64_t count) {
    constexpr hn::DFromV<V> d;
    if (count == int64_t(hn::MaxLanes(d))) return hn::StoreU(hn::Add(v, hn::LoadU(d, to)), d, to);
    HWY_ALIGN float part[hn::MaxLanes(d)];
    hn::Store(v, d, part);
    for (int64_t i = 0; i < count; ++i) to[i] += part[i];
}

void GradientOfWeights(const float* products, int64_t out, int64_t in, float* gradient) {
    using V = hn::Vec<Panel>;
    constexpr int64_t kLanes = int64_t(hn::MaxLanes(kPanelTag));
    const int64_t row = round_up(in, kPanel);
    for (int64_t o = 0; o < out; ++o, products += row, gradient += 9 * in) {
        for (int64_t i = 0; i < in; i += kLanes) {
            V half[3][6];
#pragma GCC unroll 6
            for (int64_t b = 0; b < 6; ++b) {
                V u[6], g[3];
#pragma GCC unroll 6
                for (int64_t a = 0; a < 6; ++a) u[a] = hn::LoadU(kPanelTag, products + (6 * a + b) * out * row + i);
                times_gt(u, g);
#pragma GCC unroll 3
                for (int64_t k = 0; k < 3; ++k) half[k][b] = g[k];
            }
#pragma GCC unroll 3
            for (int64_t k = 0; k < 3; ++k) {
                V g[3];
                times_gt(half[k], g);
                for (int64_t l = 0; l < 3; ++l) AddTo(gradient + (3 * k + l) * in + i, g[l], std::min(kLanes, in - i));
            }
        }
    }
}

void ChannelSums(const float* x, int64_t pixels, int64_t channels, float* sums) {
    for_channels(channels, [=](auto d, int64_t c) HWY_ATTR {
        const auto first = hn::LoadU(d, x + c);
        auto sum = hn::Zero(d), squares = hn::Zero(d);
        for (int64_t i = 0; i < pixels; ++i) {
            const auto away = hn::Sub(hn::LoadU(d, x + i * channels + c), first);
            sum = hn::Add(sum, away);
            squares = hn::MulAdd(away, away, squares);
        }
        hn::StoreU(first, d, sums + c);
        hn::StoreU(sum, d, sums + channels + c);
        hn::StoreU(squares, d, sums + 2 * channels + c);
    });
}

/// One pixel's channels into a padded image.
void PadPixel(const float* x, int64_t channels, const float* scale, const float* shift, float* out, float* slope) {
    const int64_t whole = channels / kChannels * kChannels;
    for_channels(whole, [=](auto d, int64_t c) HWY_ATTR {
        auto v = hn::LoadU(d, x + c);
        if (scale) {
            const auto one = hn::Set(d, 1.0f);
            const auto u = hn::MulAdd(hn::LoadU(d, scale + c), v, hn::LoadU(d, shift + c)), s = sigmoid(u);
            if (slope) hn::StoreU(hn::Mul(s, hn::MulAdd(u, hn::Sub(one, s), one)), d, slope + c);
            v = hn::Mul(u, s);
        }
        hn::StoreU(v, d, out + c);
    });
    // The rest of images themselves; normalised maps have multiples of kChannels.
    for (int64_t c = whole; c < channels; ++c) out[c] = x[c];
}

void Pad(const float* x, int64_t channels, const float* scale, const float* shift, bool upsample, const Shape& shape,
         float* padded, float* slope, int64_t first, int64_t all) {
    const int64_t row = shape.padded_width() * all, half = upsample ? 1 : 0, width = shape.width >> half;
    // The border belongs to the first source; so do channels that only fill up.
    const auto clear = [&](int64_t from, int64_t pixels) {
        if (first == 0) std::memset(padded + from * all, 0, size_t(pixels * all) * sizeof(float));
    };
    if (channels % kChannels != 0) clear(0, shape.padded_pixels());
    clear(0, shape.padded_width());
    for (int64_t y = 0; y < shape.height; ++y) {
        const float* in = x + (y >> half) * width * channels;
        float* out = padded + (y + 1) * row;
        clear((y + 1) * shape.padded_width(), 1);
        const bool plain = !scale && !upsample && channels == all;
        if (plain) std::memcpy(out + all, in, size_t(shape.width * all) * sizeof(float));
        for (int64_t i = 0; i < shape.width && !plain; ++i) {
            PadPixel(in + (i >> half) * channels, channels, scale, shift, out + (i + 1) * all + first,
                     slope ? slope + (y * shape.width + i) * all + first : nullptr);
        }
        clear((y + 1) * shape.padded_width() + shape.width + 1, shape.padded_width() - shape.width - 1);
    }
    const int64_t filled = shape.height + 1;
    clear(filled * shape.padded_width(), (shape.padded_height() - filled) * shape.padded_width());
}

void TransformInput(const float* padded, const Shape& shape, Tiles out, int64_t tile) {
    const int64_t all = out.channels, row = shape.padded_width() * all;
    for (int64_t ty = 0; ty < shape.tiles_high(); ++ty) {
        for (int64_t tx = 0; tx < shape.tiles_wide(); ++tx, ++tile) {
            for_channels(all, [=](auto d, int64_t c) HWY_ATTR {
                using V = hn::Vec<decltype(d)>;
                const float* in = padded + 4 * ty * row + 4 * tx * all + c;
                float* to = out.data + tile * all + c;
                V half[6][6];
#pragma GCC unroll 6
                for (int64_t j = 0; j < 6; ++j) {
                    V column[6], t[6];
#pragma GCC unroll 6
                    for (int64_t i = 0; i < 6; ++i) column[i] = hn::LoadU(d, in + i * row + j * all);
                    times_bt(column, t);
#pragma GCC unroll 6
                    for (int64_t i = 0; i < 6; ++i) half[i][j] = t[i];
                }
#pragma GCC unroll 6
                for (int64_t i = 0; i < 6; ++i) {
                    V t[6];
                    times_bt(half[i], t);
#pragma GCC unroll 6
                    for (int64_t j = 0; j < 6; ++j) hn::StoreU(t[j], d, to + (6 * i + j) * out.stride);
                }
            });
        }
    }
}

void TransformGradient(const float* padded, int64_t channels, const Shape& shape, Tiles out, int64_t tile) {
    const int64_t row = shape.padded_width() * channels;
    for (int64_t ty = 0; ty < shape.tiles_high(); ++ty) {
        for (int64_t tx = 0; tx < shape.tiles_wide(); ++tx, ++tile) {
            const float* in = padded + (4 * ty + 1) * row + (4 * tx + 1) * channels;
            float* to = out.data + tile * out.channels;
            for_channels(channels, [=](auto d, int64_t c) HWY_ATTR {
                using V = hn::Vec<decltype(d)>;
                V half[6][4];
#pragma GCC unroll 6
                for (int64_t j = 0; j < 4; ++j) {
                    V column[4], t[6];
#pragma GCC unroll 6
                    for (int64_t i = 0; i < 4; ++i) column[i] = hn::LoadU(d, in + i * row + j * channels + c);
                    times_a(column, t);
#pragma GCC unroll 6
                    for (int64_t i = 0; i < 6; ++i) half[i][j] = t[i];
                }
#pragma GCC unroll 6
                for (int64_t i = 0; i < 6; ++i) {
                    V t[6];
                    times_a(half[i], t);
#pragma GCC unroll 6
                    for (int64_t j = 0; j < 6; ++j) hn::StoreU(t[j], d, to + (6 * i + j) * out.stride + c);
                }
            });
        }
    }
}

/// Rows of [rows, inner] times a panel [inner, kPanel]; `step` is from one inner element of a to the next, `row` from
/// one row to the next. All sums stay in registers. They begin at `start`, whose rows are `start_row` apart; null: at
/// 0.
template <int kRows>
HWY_INLINE void ProductOfRows(const float* a, int64_t row, int64_t step, const float* b, int64_t b_row, int64_t inner,
                              const float* start, int64_t start_row, float* c, int64_t c_row) {
    constexpr Panel d;
    constexpr int64_t kLanes = int64_t(hn::MaxLanes(d)), kVectors = kPanel / kLanes;
    hn::Vec<Panel> sums[kRows][kVectors];
    for (int r = 0; r < kRows; ++r) {
        for (int64_t v = 0; v < kVectors; ++v)
            sums[r][v] = start ? hn::LoadU(d, start + r * start_row + v * kLanes) : hn::Zero(d);
    }
    for (int64_t k = 0; k < inner; ++k) {
        hn::Vec<Panel> right[kVectors];
        for (int64_t v = 0; v < kVectors; ++v) right[v] = hn::LoadU(d, b + k * b_row + v * kLanes);
        for (int r = 0; r < kRows; ++r) {
            const auto left = hn::Set(d, a[r * row + k * step]);
            for (int64_t v = 0; v < kVectors; ++v) sums[r][v] = hn::MulAdd(left, right[v], sums[r][v]);
        }
    }
    for (int r = 0; r < kRows; ++r) {
        for (int64_t v = 0; v < kVectors; ++v) hn::StoreU(sums[r][v], d, c + r * c_row + v * kLanes);
    }
}

/// As many rows as fit into the registers beside a panel's row.
constexpr int kRowsAtOnce = hn::MaxLanes(Panel()) >= 16 ? 12 : hn::MaxLanes(Panel()) >= 8 ? 6 : 3;

template <int kRows>
HWY_INLINE void ProductOfRest(int64_t rows, const float* a, int64_t row, int64_t step, const float* b, int64_t b_row,
                              int64_t inner, const float* start, int64_t start_row, float* c, int64_t c_row) {
    if (rows == kRows) return ProductOfRows<kRows>(a, row, step, b, b_row, inner, start, start_row, c, c_row);
    if constexpr (kRows > 1) ProductOfRest<kRows - 1>(rows, a, row, step, b, b_row, inner, start, start_row, c, c_row);
}

void Product(int64_t rows, const float* a, int64_t row, int64_t step, const float* b, int64_t b_row, int64_t inner,
             const float* start, int64_t start_row, float* c, int64_t c_row) {
    for (; rows >= kRowsAtOnce; rows -= kRowsAtOnce) {
        ProductOfRows<kRowsAtOnce>(a, row, step, b, b_row, inner, start, start_row, c, c_row);
        a += kRowsAtOnce * row, c += kRowsAtOnce * c_row;
        if (start) start += kRowsAtOnce * start_row;
    }
    if (rows > 0) ProductOfRest<kRowsAtOnce - 1>(rows, a, row, step, b, b_row, inner, start, start_row, c, c_row);
}

/// Where a tile's results go, in images one behind the other.
struct Place {
    const Shape& shape;
    int64_t channels, first = 0, top = 0, left = 0;  ///< first: number of the image's first pixel
    void advance() {
        left += 4;
        if (left >= shape.width) left = 0, top += 4;
        if (top >= shape.height) top = 0, first += shape.height * shape.width;
    }
};

/// A^T m A + b of one tile and as many channels as the tag has lanes, of which the first `count` go to y, with the
/// residual added. m: kPoints vectors, `stride` apart. y and residual: at the first of the channels.
template <class D, class V = hn::Vec<D>>
HWY_INLINE void TransformOutput(D d, const float* m, int64_t stride, V b, const Place& place, int64_t count,
                                const float* residual, float* y) {
    constexpr int64_t kLanes = int64_t(hn::MaxLanes(d));
    const auto& [shape, channels, first, top, left] = place;
    const int64_t rows = std::min<int64_t>(4, shape.height - top), columns = std::min<int64_t>(4, shape.width - left);
    V half[4][6];
#pragma GCC unroll 6
    for (int64_t j = 0; j < 6; ++j) {
        V column[6], t[4];
#pragma GCC unroll 6
        for (int64_t i = 0; i < 6; ++i) column[i] = hn::LoadU(d, m + (6 * i + j) * stride);
        times_at(column, t);
#pragma GCC unroll 6
        for (int64_t i = 0; i < 4; ++i) half[i][j] = t[i];
    }
#pragma GCC unroll 6
    for (int64_t i = 0; i < 4; ++i) {
        if (i >= rows) break;
        V t[4];
        times_at(half[i], t);
#pragma GCC unroll 6
        for (int64_t j = 0; j < 4; ++j) {
            if (j >= columns) break;
            const int64_t at = (first + (top + i) * shape.width + left + j) * channels;
            V v = hn::Add(t[j], b);
            if (count >= kLanes) {
                if (residual) v = hn::Add(v, hn::LoadU(d, residual + at));
                hn::StoreU(v, d, y + at);
            } else {
                float part[kLanes];
                hn::StoreU(v, d, part);
                for (int64_t k = 0; k < count; ++k) y[at + k] = part[k] + (residual ? residual[at + k] : 0);
            }
        }
    }
}

void MultiplyOut(Tiles in, int64_t images, const Shape& shape, const float* packed, int64_t channels, const float* bias,
                 const float* residual, float* y) {
    // A few tiles' products of one panel stay in the innermost caches until they are transformed.
    constexpr int64_t kTile = kPoints * kPanel;
    HWY_ALIGN float m[kRowsAtOnce * kTile];
    const int64_t tiles = images * shape.tiles();
    for (int64_t panel = 0; panel < channels; panel += kPanel, packed += kPoints * in.channels * kPanel) {
        const int64_t count = std::min(kPanel, channels - panel);
        HWY_ALIGN float added[kPanel] = {};
        if (bias) std::copy_n(bias + panel, count, added);
        Place place{shape, channels};
        for (int64_t first = 0; first < tiles; first += kRowsAtOnce) {
            const int64_t rows = std::min<int64_t>(kRowsAtOnce, tiles - first);
            for (int64_t p = 0; p < kPoints; ++p) {
                Product(rows, in.data + p * in.stride + first * in.channels, in.channels, 1,
                        packed + p * in.channels * kPanel, kPanel, in.channels, nullptr, 0, m + p * kPanel, kTile);
            }
            for (int64_t r = 0; r < rows; ++r, place.advance()) {
                for_channels(round_up(count, kChannels), [&](auto d, int64_t c) HWY_ATTR {
                    TransformOutput(d, m + r * kTile + c, kPanel, hn::Load(d, added + c), place, count - c,
                                    residual ? residual + panel + c : nullptr, y + panel + c);
                });
            }
        }
    }
}

void Multiply(int64_t rows, int64_t inner, const Left& a, const Right& b, int64_t columns, const float* start,
              int64_t start_row, float* c, int64_t c_row) {
    for (int64_t j = 0; j < columns; j += kPanel) {
        Product(rows, a.data, a.row, a.step, b.data + j / kPanel * b.panel, b.row, inner, start ? start + j : nullptr,
                start_row, c + j, c_row);
    }
}

/// Calls work(c, mask) for the vectors at c, c + 1, .. of `columns` numbers; the mask is off behind them.
template <class Work>
HWY_INLINE void for_columns(int64_t columns, const Work& work) {
    constexpr int64_t kLanes = int64_t(hn::MaxLanes(kPanelTag));
    for (int64_t c = 0; c < columns; c += kLanes) {
        work(c, hn::FirstN(kPanelTag, size_t(std::min(kLanes, columns - c))));
    }
}

void Softmax(int64_t rows, int64_t columns, int64_t stride, float factor, float* x) {
    constexpr Panel d;
    for (; rows > 0; --rows, x += stride) {
        auto most = hn::Set(d, -3e38f), sum = hn::Zero(d);
        for_columns(columns, [&](int64_t c, auto mask) HWY_ATTR {
            const auto scaled = times(factor, hn::LoadU(d, x + c));
            most = hn::IfThenElse(mask, hn::Max(most, scaled), most);
        });
        most = hn::MaxOfLanes(d, most);
        for_columns(columns, [&](int64_t c, auto mask) HWY_ATTR {
            const auto e = exponential(hn::Sub(times(factor, hn::LoadU(d, x + c)), most));
            hn::StoreU(e, d, x + c);
            sum = hn::Add(sum, hn::IfThenElseZero(mask, e));
        });
        const auto share = hn::Div(hn::Set(d, 1.0f), hn::SumOfLanes(d, sum));
        for_columns(columns,
                    [&](int64_t c, auto) HWY_ATTR { hn::StoreU(hn::Mul(share, hn::LoadU(d, x + c)), d, x + c); });
    }
}

void SoftmaxBackward(int64_t rows, int64_t columns, int64_t stride, float factor, const float* s, float* gradient) {
    constexpr Panel d;
    for (; rows > 0; --rows, s += stride, gradient += stride) {
        auto sum = hn::Zero(d);
        for_columns(columns, [&](int64_t c, auto mask) HWY_ATTR {
            sum = hn::Add(sum, hn::IfThenElseZero(mask, hn::Mul(hn::LoadU(d, s + c), hn::LoadU(d, gradient + c))));
        });
        sum = hn::SumOfLanes(d, sum);
        for_columns(columns, [&](int64_t c, auto) HWY_ATTR {
            const auto away = hn::Sub(hn::LoadU(d, gradient + c), sum);
            hn::StoreU(times(factor, hn::Mul(hn::LoadU(d, s + c), away)), d, gradient + c);
        });
    }
}

void ScaledSums(const float* x, int64_t pixels, int64_t channels, const float* slope, float* d, int64_t stride,
                float* sums) {
    for_channels(channels, [=](auto tag, int64_t c) HWY_ATTR {
        auto sum = hn::Zero(tag), with_x = hn::Zero(tag);
        for (int64_t i = 0; i < pixels; ++i) {
            auto scaled = hn::LoadU(tag, d + i * stride + c);
            if (slope) {
                scaled = hn::Mul(scaled, hn::LoadU(tag, slope + i * stride + c));
                hn::StoreU(scaled, tag, d + i * stride + c);
            }
            sum = hn::Add(sum, scaled);
            with_x = hn::MulAdd(scaled, hn::LoadU(tag, x + i * channels + c), with_x);
        }
        hn::StoreU(sum, tag, sums + c);
        hn::StoreU(with_x, tag, sums + channels + c);
    });
}

void AffineBackward(const float* x, int64_t pixels, int64_t channels, const float* d, int64_t stride, const float* p,
                    const float* q, const float* r, bool add, float* out) {
    for (int64_t i = 0; i < pixels; ++i, x += channels, d += stride, out += channels) {
        for_channels(channels, [=](auto tag, int64_t c) HWY_ATTR {
            auto rest = hn::MulAdd(hn::LoadU(tag, q + c), hn::LoadU(tag, x + c), hn::LoadU(tag, r + c));
            if (add) rest = hn::Sub(rest, hn::LoadU(tag, out + c));
            hn::StoreU(hn::MulSub(hn::LoadU(tag, p + c), hn::LoadU(tag, d + c), rest), tag, out + c);
        });
    }
}

/// AdamW of as many numbers as the tag has lanes.
template <class D>
HWY_INLINE void AdamWOf(D d, const AdamWNumbers& n, const float* gradient, float* mean, float* square, float* weights,
                        float* ema) {
    const auto number = [=](float value) HWY_ATTR { return hn::Set(d, value); };
    const auto g = hn::Mul(number(n.factor), hn::LoadU(d, gradient));
    auto m = hn::LoadU(d, mean), s = hn::LoadU(d, square), w = hn::LoadU(d, weights), e = hn::LoadU(d, ema);
    m = hn::MulAdd(number(n.mean_share), hn::Sub(g, m), m);
    s = hn::MulAdd(number(n.square_share), hn::Mul(g, g), hn::Mul(number(n.beta2), s));
    const auto root = hn::Add(hn::Sqrt(hn::Mul(s, number(n.square_factor))), number(n.epsilon));
    w = hn::NegMulAdd(number(n.rate), hn::Div(m, root), hn::Mul(number(n.shrink), w));
    e = hn::MulAdd(number(n.ema_share), hn::Sub(w, e), e);
    hn::StoreU(m, d, mean), hn::StoreU(s, d, square), hn::StoreU(w, d, weights), hn::StoreU(e, d, ema);
}

void AdamW(const AdamWNumbers& numbers, int64_t count, const float* gradient, float* mean, float* square,
           float* weights, float* ema) {
    constexpr int64_t kLanes = int64_t(hn::MaxLanes(kPanelTag));
    int64_t i = 0;
    for (; i + kLanes <= count; i += kLanes)
        AdamWOf(kPanelTag, numbers, gradient + i, mean + i, square + i, weights + i, ema + i);
    for (; i < count; ++i)
        AdamWOf(hn::CappedTag<float, 1>(), numbers, gradient + i, mean + i, square + i, weights + i, ema + i);
}

const char* Target() { return hwy::TargetName(HWY_TARGET); }

}  // namespace
}  // namespace diffuse::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace diffuse::kernels {
namespace {

HWY_EXPORT(TransformWeights);
HWY_EXPORT(GradientOfWeights);
HWY_EXPORT(ChannelSums);
HWY_EXPORT(Pad);
HWY_EXPORT(TransformInput);
HWY_EXPORT(TransformGradient);
HWY_EXPORT(MultiplyOut);
HWY_EXPORT(Multiply);
HWY_EXPORT(Softmax);
HWY_EXPORT(SoftmaxBackward);
HWY_EXPORT(ScaledSums);
HWY_EXPORT(AffineBackward);
HWY_EXPORT(AdamW);
HWY_EXPORT(Target);

}  // namespace

std::string instruction_set() { return HWY_DYNAMIC_DISPATCH(Target)(); }
std::vector<std::string> instruction_sets() {
    std::vector<std::string> names;
    for (const int64_t target : hwy::SupportedAndGeneratedTargets()) names.emplace_back(hwy::TargetName(target));
    return names;
}
void use_instruction_set(const std::string& name) {
    hwy::SetSupportedTargetsForTest(0);
    for (const int64_t target : hwy::SupportedAndGeneratedTargets()) {
        if (hwy::TargetName(target) == name) hwy::SetSupportedTargetsForTest(target);
    }
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

void channel_sums(const float* x, int64_t pixels, int64_t channels, float* sums) {
    HWY_DYNAMIC_DISPATCH(ChannelSums)(x, pixels, channels, sums);
}
void pad(const float* x, int64_t channels, const float* scale, const float* shift, bool upsample, const Shape& shape,
         float* padded, float* slope, int64_t first, int64_t all) {
    HWY_DYNAMIC_DISPATCH(Pad)(x, channels, scale, shift, upsample, shape, padded, slope, first, all);
}
void transform_input(const float* padded, const Shape& shape, Tiles out, int64_t first_tile) {
    HWY_DYNAMIC_DISPATCH(TransformInput)(padded, shape, out, first_tile);
}
void transform_gradient(const float* padded, int64_t channels, const Shape& shape, Tiles out, int64_t first_tile) {
    HWY_DYNAMIC_DISPATCH(TransformGradient)(padded, channels, shape, out, first_tile);
}
void multiply_out(Tiles in, int64_t images, const Shape& shape, const float* packed, int64_t channels,
                  const float* bias, const float* residual, float* y) {
    HWY_DYNAMIC_DISPATCH(MultiplyOut)(in, images, shape, packed, channels, bias, residual, y);
}
void multiply(int64_t rows, int64_t inner, const Left& a, const Right& b, int64_t columns, const float* start,
              int64_t start_row, float* c, int64_t c_row) {
    HWY_DYNAMIC_DISPATCH(Multiply)(rows, inner, a, b, columns, start, start_row, c, c_row);
}
void softmax(int64_t rows, int64_t columns, int64_t stride, float factor, float* x) {
    HWY_DYNAMIC_DISPATCH(Softmax)(rows, columns, stride, factor, x);
}
void softmax_backward(int64_t rows, int64_t columns, int64_t stride, float factor, const float* s, float* d) {
    HWY_DYNAMIC_DISPATCH(SoftmaxBackward)(rows, columns, stride, factor, s, d);
}
void scaled_sums(const float* x, int64_t pixels, int64_t channels, const float* slope, float* d, int64_t stride,
                 float* sums) {
    HWY_DYNAMIC_DISPATCH(ScaledSums)(x, pixels, channels, slope, d, stride, sums);
}
void affine_backward(const float* x, int64_t pixels, int64_t channels, const float* d, int64_t stride, const float* p,
                     const float* q, const float* r, bool add, float* out) {
    HWY_DYNAMIC_DISPATCH(AffineBackward)(x, pixels, channels, d, stride, p, q, r, add, out);
}

void adamw(const AdamWNumbers& numbers, int64_t count, const float* gradient, float* mean, float* square,
           float* weights, float* ema) {
    HWY_DYNAMIC_DISPATCH(AdamW)(numbers, count, gradient, mean, square, weights, ema);
}

void transform_weights(const float* weights, int64_t out, int64_t in, bool backward, float* packed) {
    HWY_DYNAMIC_DISPATCH(TransformWeights)(weights, out, in, backward, packed);
}
void gradient_of_weights(const float* products, int64_t out, int64_t in, float* gradient) {
    HWY_DYNAMIC_DISPATCH(GradientOfWeights)(products, out, in, gradient);
}

}  // namespace diffuse::kernels
#endif
