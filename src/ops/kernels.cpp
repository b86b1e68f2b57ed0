#include "ops/kernels.hpp"

#include <algorithm>
#include <array>
#include <cstring>

// Compiles what follows once for each instruction set; those left out gain nothing here.
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_AVX3_DL)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/kernels.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <hwy/contrib/math/math-inl.h>

HWY_BEFORE_NAMESPACE();
namespace diffuse::kernels::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

using Wide = hn::CappedTag<float, kChannels>;  // transforms
using Panel = hn::CappedTag<float, kPanel>;    // products
using V = hn::Vec<Wide>;
constexpr Wide kWide;
constexpr int64_t kStep = int64_t(hn::MaxLanes(kWide));

V times(float factor, V x) { return hn::Mul(hn::Set(kWide, factor), x); }
V plus_times(V y, float factor, V x) { return hn::MulAdd(hn::Set(kWide, factor), x, y); }

V sigmoid(V u) {
    const V e = hn::Exp(kWide, hn::Min(hn::Neg(u), hn::Set(kWide, 80.0f)));
    return hn::Div(hn::Set(kWide, 1.0f), hn::Add(hn::Set(kWide, 1.0f), e));
}

// B^T, A^T and A of F(4x4, 3x3) (Lavin & Gray 2016, section 4.3), applied to one column or row of a tile.

void times_bt(const V (&d)[6], V (&t)[6]) {
    const V even = plus_times(d[4], -4, d[2]), odd = plus_times(d[3], -4, d[1]);
    const V even2 = hn::Sub(d[4], d[2]), odd2 = times(2, hn::Sub(d[3], d[1]));
    t[0] = plus_times(plus_times(d[4], -5, d[2]), 4, d[0]);
    t[1] = hn::Add(even, odd);
    t[2] = hn::Sub(even, odd);
    t[3] = hn::Add(even2, odd2);
    t[4] = hn::Sub(even2, odd2);
    t[5] = plus_times(plus_times(d[5], -5, d[3]), 4, d[1]);
}

void times_at(const V (&m)[6], V (&y)[4]) {
    const V sum1 = hn::Add(m[1], m[2]), difference1 = hn::Sub(m[1], m[2]);
    const V sum2 = hn::Add(m[3], m[4]), difference2 = hn::Sub(m[3], m[4]);
    y[0] = hn::Add(m[0], hn::Add(sum1, sum2));
    y[1] = plus_times(difference1, 2, difference2);
    y[2] = plus_times(sum1, 4, sum2);
    y[3] = hn::Add(plus_times(difference1, 8, difference2), m[5]);
}

void times_a(const V (&y)[4], V (&m)[6]) {
    const V even = hn::Add(y[0], y[2]), odd = hn::Add(y[1], y[3]);
    const V even2 = plus_times(y[0], 4, y[2]), odd2 = plus_times(times(2, y[1]), 8, y[3]);
    m[0] = y[0];
    m[1] = hn::Add(even, odd);
    m[2] = hn::Sub(even, odd);
    m[3] = hn::Add(even2, odd2);
    m[4] = hn::Sub(even2, odd2);
    m[5] = y[3];
}

void ChannelSums(const float* x, int64_t pixels, int64_t channels, float* sums) {
    for (int64_t c = 0; c < channels; c += kStep) {
        const V first = hn::LoadU(kWide, x + c);
        V sum = hn::Zero(kWide), squares = hn::Zero(kWide);
        for (int64_t i = 0; i < pixels; ++i) {
            const V away = hn::Sub(hn::LoadU(kWide, x + i * channels + c), first);
            sum = hn::Add(sum, away);
            squares = hn::MulAdd(away, away, squares);
        }
        hn::StoreU(first, kWide, sums + c);
        hn::StoreU(sum, kWide, sums + channels + c);
        hn::StoreU(squares, kWide, sums + 2 * channels + c);
    }
}

/// One pixel's channels into a padded image.
void PadPixel(const float* x, int64_t channels, const float* scale, const float* shift, float* out) {
    int64_t c = 0;
    for (; c + kStep <= channels; c += kStep) {
        V v = hn::LoadU(kWide, x + c);
        if (scale) {
            const V u = hn::MulAdd(hn::LoadU(kWide, scale + c), v, hn::LoadU(kWide, shift + c));
            v = hn::Mul(u, sigmoid(u));
        }
        hn::StoreU(v, kWide, out + c);
    }
    for (; c < channels; ++c) out[c] = x[c];  // images themselves; normalised ones have multiples of 8 channels
}

void Pad(const float* x, int64_t channels, const float* scale, const float* shift, bool upsample, const Shape& shape,
         float* padded, int64_t first, int64_t all) {
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
        for (int64_t i = 0; i < shape.width; ++i) {
            PadPixel(in + (i >> half) * channels, channels, scale, shift, out + (i + 1) * all + first);
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
            for (int64_t c = 0; c < all; c += kStep) {
                const float* in = padded + 4 * ty * row + 4 * tx * all + c;
                float* to = out.data + tile * all + c;
                V half[6][6];
                for (int64_t j = 0; j < 6; ++j) {
                    V column[6], t[6];
                    for (int64_t i = 0; i < 6; ++i) column[i] = hn::LoadU(kWide, in + i * row + j * all);
                    times_bt(column, t);
                    for (int64_t i = 0; i < 6; ++i) half[i][j] = t[i];
                }
                for (int64_t i = 0; i < 6; ++i) {
                    V t[6];
                    times_bt(half[i], t);
                    for (int64_t j = 0; j < 6; ++j) hn::StoreU(t[j], kWide, to + (6 * i + j) * out.stride);
                }
            }
        }
    }
}

void TransformGradient(const float* padded, int64_t channels, const Shape& shape, Tiles out, int64_t tile) {
    const int64_t row = shape.padded_width() * channels;
    for (int64_t ty = 0; ty < shape.tiles_high(); ++ty) {
        for (int64_t tx = 0; tx < shape.tiles_wide(); ++tx, ++tile) {
            for (int64_t c = 0; c < out.channels; c += kStep) {
                float* to = out.data + tile * out.channels + c;
                if (c >= channels) {
                    for (int64_t p = 0; p < kPoints; ++p) hn::StoreU(hn::Zero(kWide), kWide, to + p * out.stride);
                    continue;
                }
                const float* in = padded + (4 * ty + 1) * row + (4 * tx + 1) * channels + c;
                V half[6][4];
                for (int64_t j = 0; j < 4; ++j) {
                    V column[4], t[6];
                    for (int64_t i = 0; i < 4; ++i) column[i] = hn::LoadU(kWide, in + i * row + j * channels);
                    times_a(column, t);
                    for (int64_t i = 0; i < 6; ++i) half[i][j] = t[i];
                }
                for (int64_t i = 0; i < 6; ++i) {
                    V t[6];
                    times_a(half[i], t);
                    for (int64_t j = 0; j < 6; ++j) hn::StoreU(t[j], kWide, to + (6 * i + j) * out.stride);
                }
            }
        }
    }
}

void TransformOutput(Tiles in, int64_t tile, const Shape& shape, int64_t channels, const float* bias,
                     const float* residual, float* y) {
    for (int64_t ty = 0; ty < shape.tiles_high(); ++ty) {
        for (int64_t tx = 0; tx < shape.tiles_wide(); ++tx, ++tile) {
            const int64_t rows = std::min<int64_t>(4, shape.height - 4 * ty);
            const int64_t columns = std::min<int64_t>(4, shape.width - 4 * tx);
            for (int64_t c = 0; c < channels; c += kStep) {
                const float* from = in.data + tile * in.channels + c;
                const int64_t left = std::min(kStep, channels - c);
                float part[kChannels] = {};
                if (bias) std::memcpy(part, bias + c, size_t(left) * sizeof(float));
                const V b = hn::LoadU(kWide, part);
                V half[4][6];
                for (int64_t j = 0; j < 6; ++j) {
                    V column[6], t[4];
                    for (int64_t i = 0; i < 6; ++i) column[i] = hn::LoadU(kWide, from + (6 * i + j) * in.stride);
                    times_at(column, t);
                    for (int64_t i = 0; i < 4; ++i) half[i][j] = t[i];
                }
                for (int64_t i = 0; i < rows; ++i) {
                    V t[4];
                    times_at(half[i], t);
                    for (int64_t j = 0; j < columns; ++j) {
                        const int64_t at = ((4 * ty + i) * shape.width + 4 * tx + j) * channels + c;
                        V v = hn::Add(t[j], b);
                        if (left == kStep) {
                            if (residual) v = hn::Add(v, hn::LoadU(kWide, residual + at));
                            hn::StoreU(v, kWide, y + at);
                        } else {
                            hn::StoreU(v, kWide, part);
                            for (int64_t k = 0; k < left; ++k) y[at + k] = part[k] + (residual ? residual[at + k] : 0);
                        }
                    }
                }
            }
        }
    }
}

/// Rows of [rows, inner] times a panel [inner, kPanel]; `step` is from one inner element of a to the next, `row` from
/// one row to the next. All sums stay in registers.
template <int kRows>
HWY_INLINE void ProductOfRows(const float* a, int64_t row, int64_t step, const float* b, int64_t b_row, int64_t inner,
                              bool add, float* c, int64_t c_row) {
    constexpr Panel d;
    constexpr int64_t kLanes = int64_t(hn::MaxLanes(d)), kVectors = kPanel / kLanes;
    hn::Vec<Panel> sums[kRows][kVectors];
    for (int r = 0; r < kRows; ++r) {
        for (int64_t v = 0; v < kVectors; ++v)
            sums[r][v] = add ? hn::LoadU(d, c + r * c_row + v * kLanes) : hn::Zero(d);
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
                              int64_t inner, bool add, float* c, int64_t c_row) {
    if (rows == kRows) return ProductOfRows<kRows>(a, row, step, b, b_row, inner, add, c, c_row);
    if constexpr (kRows > 1) ProductOfRest<kRows - 1>(rows, a, row, step, b, b_row, inner, add, c, c_row);
}

void Product(int64_t rows, const float* a, int64_t row, int64_t step, const float* b, int64_t b_row, int64_t inner,
             bool add, float* c, int64_t c_row) {
    for (; rows >= kRowsAtOnce; rows -= kRowsAtOnce, a += kRowsAtOnce * row, c += kRowsAtOnce * c_row) {
        ProductOfRows<kRowsAtOnce>(a, row, step, b, b_row, inner, add, c, c_row);
    }
    if (rows > 0) ProductOfRest<kRowsAtOnce - 1>(rows, a, row, step, b, b_row, inner, add, c, c_row);
}

void Multiply(Tiles in, int64_t rows, const float* packed, Tiles out) {
    for (int64_t p = 0; p < kPoints; ++p) {
        for (int64_t panel = 0; panel < out.channels; panel += kPanel, packed += in.channels * kPanel) {
            Product(rows, in.data + p * in.stride, in.channels, 1, packed, kPanel, in.channels, false,
                    out.data + p * out.stride + panel, out.channels);
        }
    }
}

void MultiplyTransposed(Tiles in, int64_t rows, Tiles gradients, float* products) {
    for (int64_t p = 0; p < kPoints; ++p, products += in.channels * gradients.channels) {
        for (int64_t panel = 0; panel < gradients.channels; panel += kPanel) {
            Product(in.channels, in.data + p * in.stride, 1, in.channels, gradients.data + p * gradients.stride + panel,
                    gradients.channels, rows, true, products + panel, gradients.channels);
        }
    }
}

void SiluBackward(const float* x, int64_t pixels, int64_t channels, const float* scale, const float* shift, float* d,
                  int64_t stride, float* sums) {
    const V one = hn::Set(kWide, 1.0f);
    for (int64_t c = 0; c < channels; c += kStep) {
        const V a = hn::LoadU(kWide, scale + c), b = hn::LoadU(kWide, shift + c);
        V sum = hn::LoadU(kWide, sums + c), with_x = hn::LoadU(kWide, sums + channels + c);
        for (int64_t i = 0; i < pixels; ++i) {
            const V v = hn::LoadU(kWide, x + i * channels + c), u = hn::MulAdd(a, v, b), s = sigmoid(u);
            const V slope = hn::Mul(s, hn::MulAdd(u, hn::Sub(one, s), one));
            const V gradient = hn::Mul(hn::LoadU(kWide, d + i * stride + c), slope);
            hn::StoreU(gradient, kWide, d + i * stride + c);
            sum = hn::Add(sum, gradient);
            with_x = hn::MulAdd(gradient, v, with_x);
        }
        hn::StoreU(sum, kWide, sums + c);
        hn::StoreU(with_x, kWide, sums + channels + c);
    }
}

void AffineBackward(const float* x, int64_t pixels, int64_t channels, const float* d, int64_t stride, const float* p,
                    const float* q, const float* r, float* out) {
    for (int64_t i = 0; i < pixels; ++i) {
        for (int64_t c = 0; c < channels; c += kStep) {
            const V rest =
                hn::MulAdd(hn::LoadU(kWide, q + c), hn::LoadU(kWide, x + i * channels + c), hn::LoadU(kWide, r + c));
            const V v = hn::MulSub(hn::LoadU(kWide, p + c), hn::LoadU(kWide, d + i * stride + c), rest);
            hn::StoreU(v, kWide, out + i * channels + c);
        }
    }
}

}  // namespace
}  // namespace diffuse::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace diffuse::kernels {
namespace {

HWY_EXPORT(ChannelSums);
HWY_EXPORT(Pad);
HWY_EXPORT(TransformInput);
HWY_EXPORT(TransformGradient);
HWY_EXPORT(TransformOutput);
HWY_EXPORT(Multiply);
HWY_EXPORT(MultiplyTransposed);
HWY_EXPORT(SiluBackward);
HWY_EXPORT(AffineBackward);

// G of F(4x4, 3x3)
constexpr float kG[6][3] = {{1.0f / 4, 0, 0},
                            {-1.0f / 6, -1.0f / 6, -1.0f / 6},
                            {-1.0f / 6, 1.0f / 6, -1.0f / 6},
                            {1.0f / 24, 1.0f / 12, 1.0f / 6},
                            {1.0f / 24, -1.0f / 12, 1.0f / 6},
                            {0, 0, 1}};

}  // namespace

void channel_sums(const float* x, int64_t pixels, int64_t channels, float* sums) {
    HWY_DYNAMIC_DISPATCH(ChannelSums)(x, pixels, channels, sums);
}
void pad(const float* x, int64_t channels, const float* scale, const float* shift, bool upsample, const Shape& shape,
         float* padded, int64_t first, int64_t all) {
    HWY_DYNAMIC_DISPATCH(Pad)(x, channels, scale, shift, upsample, shape, padded, first, all);
}
void transform_input(const float* padded, const Shape& shape, Tiles out, int64_t first_tile) {
    HWY_DYNAMIC_DISPATCH(TransformInput)(padded, shape, out, first_tile);
}
void transform_gradient(const float* padded, int64_t channels, const Shape& shape, Tiles out, int64_t first_tile) {
    HWY_DYNAMIC_DISPATCH(TransformGradient)(padded, channels, shape, out, first_tile);
}
void transform_output(Tiles in, int64_t first_tile, const Shape& shape, int64_t channels, const float* bias,
                      const float* residual, float* y) {
    HWY_DYNAMIC_DISPATCH(TransformOutput)(in, first_tile, shape, channels, bias, residual, y);
}
void multiply(Tiles in, int64_t rows, const float* packed, Tiles out) {
    HWY_DYNAMIC_DISPATCH(Multiply)(in, rows, packed, out);
}
void multiply_transposed(Tiles in, int64_t rows, Tiles gradients, float* products) {
    HWY_DYNAMIC_DISPATCH(MultiplyTransposed)(in, rows, gradients, products);
}
void silu_backward(const float* x, int64_t pixels, int64_t channels, const float* scale, const float* shift, float* d,
                   int64_t stride, float* sums) {
    HWY_DYNAMIC_DISPATCH(SiluBackward)(x, pixels, channels, scale, shift, d, stride, sums);
}
void affine_backward(const float* x, int64_t pixels, int64_t channels, const float* d, int64_t stride, const float* p,
                     const float* q, const float* r, float* out) {
    HWY_DYNAMIC_DISPATCH(AffineBackward)(x, pixels, channels, d, stride, p, q, r, out);
}

void transform_weights(const float* weights, int64_t out, int64_t in, bool backward, float* packed) {
    const int64_t rows = backward ? out : in, columns = backward ? in : out;
    const int64_t padded_rows = round_up(rows, kChannels), panels = round_up(columns, kPanel) / kPanel;
    std::fill_n(packed, kPoints * panels * padded_rows * kPanel, 0.0f);
    for (int64_t o = 0; o < out; ++o) {
        for (int64_t i = 0; i < in; ++i) {
            float half[6][3] = {};
            for (int a = 0; a < 6; ++a) {
                for (int k = 0; k < 3; ++k) {
                    for (int l = 0; l < 3; ++l) {
                        const int tap = backward ? 3 * (2 - k) + 2 - l : 3 * k + l;
                        half[a][l] += kG[a][k] * weights[(o * 9 + tap) * in + i];
                    }
                }
            }
            const int64_t row = backward ? o : i, column = backward ? i : o;
            float* to = packed + (column / kPanel * padded_rows + row) * kPanel + column % kPanel;
            for (int a = 0; a < 6; ++a) {
                for (int b = 0; b < 6; ++b) {
                    float sum = 0;
                    for (int l = 0; l < 3; ++l) sum += half[a][l] * kG[b][l];
                    to[(6 * a + b) * panels * padded_rows * kPanel] = sum;
                }
            }
        }
    }
}

void gradient_of_weights(const float* products, int64_t out, int64_t in, float* gradient) {
    const int64_t padded_in = round_up(in, kChannels), padded_out = round_up(out, kPanel);
    for (int64_t o = 0; o < out; ++o) {
        for (int64_t i = 0; i < in; ++i) {
            float half[3][6] = {};
            for (int a = 0; a < 6; ++a) {
                for (int b = 0; b < 6; ++b) {
                    const float u = products[((6 * a + b) * padded_in + i) * padded_out + o];
                    for (int k = 0; k < 3; ++k) half[k][b] += kG[a][k] * u;
                }
            }
            for (int k = 0; k < 3; ++k) {
                for (int l = 0; l < 3; ++l) {
                    float sum = 0;
                    for (int b = 0; b < 6; ++b) sum += half[k][b] * kG[b][l];
                    gradient[(o * 9 + 3 * k + l) * in + i] += sum;
                }
            }
        }
    }
}

}  // namespace diffuse::kernels
#endif
