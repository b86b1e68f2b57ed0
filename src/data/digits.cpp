#include "diffuse/data/digits.hpp"

#include <ATen/Parallel.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <vector>

#include "data/kinds.hpp"
#include "diffuse/base/random.hpp"

namespace diffuse {
namespace {

struct Point {
    double x, y;
};

/// A point that the pen passes: through a curve, or, at a corner, by stopping and setting off in a new direction.
struct ControlPoint {
    double x, y;
    bool corner = false;
};

struct Segment {
    Point from, to;
};

using Stroke = std::vector<ControlPoint>;  // from pen down to pen up
using Glyph = std::vector<Stroke>;

constexpr bool kCorner = true;
constexpr double kReach = 10.5;  // how far the ink reaches from the middle; MNIST's digits fill a box of 20 x 20 pixels

/// The ways to write each digit, in the unit square with y downwards.
const std::array<std::vector<Glyph>, 10> kWays = {{
    // 0: closed; with the end crossing the start
    {{Stroke{{.55, 0}, {.25, .1}, {.08, .5}, {.22, .88}, {.5, 1}, {.8, .85}, {.92, .45}, {.78, .1}, {.48, 0}}},
     {Stroke{{.75, .1}, {.42, 0}, {.1, .3}, {.12, .75}, {.45, 1}, {.82, .8}, {.88, .35}, {.62, .02}, {.38, .1}}}},
    // 1: a line; with a flag; with a flag and a base
    {{Stroke{{.5, 0}, {.5, .5}, {.5, 1}}},
     {Stroke{{.3, .2}, {.52, 0, kCorner}, {.52, .5}, {.52, 1}}},
     {Stroke{{.28, .2}, {.52, 0, kCorner}, {.52, .5}, {.52, 1}}, Stroke{{.22, 1}, {.82, 1}}}},
    // 2: with a corner; with a loop; with a wavy base
    {{Stroke{{.12, .25}, {.35, .02}, {.7, .05}, {.82, .3}, {.55, .65}, {.1, .97, kCorner}, {.5, .97}, {.95, .96}}},
     {Stroke{{.12, .22},
             {.42, 0},
             {.78, .15},
             {.7, .5},
             {.42, .85},
             {.15, .97},
             {.06, .82},
             {.25, .75},
             {.55, .9},
             {.95, .95}}},
     {Stroke{{.1, .2}, {.4, 0}, {.78, .2}, {.6, .6}, {.08, 1, kCorner}, {.35, .88}, {.65, .98}, {.95, .9}}}},
    // 3: round; with a flat top; with a loop in the middle
    {{Stroke{
         {.12, .14}, {.45, 0}, {.8, .17}, {.68, .4}, {.38, .48, kCorner}, {.75, .56}, {.88, .78}, {.55, 1}, {.1, .9}}},
     {Stroke{{.12, .03}, {.82, .03, kCorner}, {.42, .42, kCorner}, {.78, .55}, {.85, .8}, {.5, 1}, {.1, .9}}},
     {Stroke{{.15, .12},
             {.5, 0},
             {.78, .18},
             {.58, .42},
             {.36, .5},
             {.42, .42},
             {.75, .55},
             {.85, .8},
             {.5, 1},
             {.1, .88}}}},
    // 4: closed; open with a corner; open with a curve
    {{Stroke{{.7, 1}, {.72, .5}, {.74, 0, kCorner}, {.08, .64, kCorner}, {.95, .62}}},
     {Stroke{{.25, 0}, {.2, .3}, {.1, .58, kCorner}, {.95, .54}}, Stroke{{.74, .08}, {.7, .5}, {.68, 1}}},
     {Stroke{{.15, .02}, {.08, .35}, {.3, .54}, {.75, .45}}, Stroke{{.84, 0}, {.78, .5}, {.7, 1}}}},
    // 5: in one stroke; with the bar written last
    {{Stroke{
         {.88, .03}, {.28, .04, kCorner}, {.22, .44, kCorner}, {.55, .36}, {.85, .62}, {.7, .92}, {.38, 1}, {.1, .88}}},
     {Stroke{{.3, .05}, {.2, .46, kCorner}, {.6, .42}, {.8, .68}, {.6, .94}, {.08, .98}},
      Stroke{{.28, .05}, {.6, .04}, {.92, 0}}}},
    // 6: round; with a straight back
    {{Stroke{{.72, 0}, {.35, .2}, {.12, .62}, {.28, .96}, {.68, .96}, {.86, .7}, {.6, .52}, {.3, .6}, {.15, .78}}},
     {Stroke{{.55, 0}, {.28, .4}, {.14, .75}, {.38, 1}, {.74, .88}, {.72, .6}, {.45, .56}, {.18, .8}}}},
    // 7: plain; with a bar; with a hook
    {{Stroke{{.08, .08}, {.5, .05}, {.88, .05, kCorner}, {.55, .5}, {.34, 1}}},
     {Stroke{{.08, .06}, {.5, .05}, {.9, .04, kCorner}, {.62, .5}, {.4, 1}}, Stroke{{.32, .52}, {.84, .48}}},
     {Stroke{{.06, .18}, {.08, .05, kCorner}, {.5, .08}, {.88, .03, kCorner}, {.55, .5}, {.36, 1}}}},
    // 8: in one stroke from the top right; as two rings
    {{Stroke{{.76, .12},
             {.46, 0},
             {.2, .2},
             {.5, .46},
             {.82, .76},
             {.5, 1},
             {.18, .78},
             {.48, .48},
             {.78, .22},
             {.68, .06}}},
     {Stroke{{.55, .46}, {.24, .32}, {.35, .04}, {.68, .06}, {.74, .34}, {.45, .47}},
      Stroke{{.5, .46}, {.18, .66}, {.26, .96}, {.72, .97}, {.82, .66}, {.5, .45}}}},
    // 9: with a straight tail; with a curved tail; in one sweep
    {{Stroke{{.8, .16}, {.5, 0}, {.16, .2}, {.3, .48}, {.66, .4}, {.82, .1, kCorner}, {.78, .5}, {.7, 1}}},
     {Stroke{
         {.78, .14}, {.48, 0}, {.16, .22}, {.34, .48}, {.7, .4}, {.8, .12, kCorner}, {.82, .6}, {.6, .98}, {.16, .9}}},
     {Stroke{{.74, .34}, {.4, .48}, {.18, .24}, {.46, 0}, {.76, .16}, {.72, .55}, {.5, 1}}}},
}};

/// Bends, stretches, slants and turns the glyph, and moves each of its control points a little.
void vary(Glyph& glyph, Random& random) {
    constexpr double kJitter = 0.028, kTau = 2 * std::numbers::pi;
    const double bend = 0.03 * random.normal(), phase = random.uniform(0, kTau);
    const double width = random.uniform(0.6, 1.0);
    const double slant = random.uniform(-0.05, 0.4);  // most people's writing leans to the right
    const double angle = random.uniform(-0.15, 0.15);
    for (Stroke& stroke : glyph) {
        for (ControlPoint& p : stroke) {
            const double y = p.y + kJitter * random.normal();
            const double x = width * (p.x + kJitter * random.normal()) + bend * std::sin(kTau * y + phase) - slant * y;
            p.x = std::cos(angle) * x - std::sin(angle) * y;
            p.y = std::sin(angle) * x + std::cos(angle) * y;
        }
    }
}

/// The Catmull-Rom tangent at stroke[i], which is zero at a corner.
Point tangent(const Stroke& stroke, size_t i) {
    if (stroke[i].corner) return {0, 0};
    const ControlPoint& before = stroke[i == 0 ? 0 : i - 1];
    const ControlPoint& after = stroke[std::min(i + 1, stroke.size() - 1)];
    return {(after.x - before.x) / 2, (after.y - before.y) / 2};
}

/// The point at t in [0, 1] of the curve from stroke[i] to stroke[i + 1], a cubic Hermite spline.
Point curve(const Stroke& stroke, size_t i, double t) {
    const ControlPoint &p = stroke[i], &q = stroke[i + 1];
    const Point u = tangent(stroke, i), v = tangent(stroke, i + 1);
    const double to_q = t * t * (3 - 2 * t), along_u = t * (1 - t) * (1 - t), along_v = t * t * (t - 1);
    return {p.x + to_q * (q.x - p.x) + along_u * u.x + along_v * v.x,
            p.y + to_q * (q.y - p.y) + along_u * u.y + along_v * v.y};
}

std::vector<Segment> trace(const Glyph& glyph) {
    constexpr int kSegmentsPerCurve = 6;
    std::vector<Segment> segments;
    for (const Stroke& stroke : glyph) {
        Point pen{stroke[0].x, stroke[0].y};
        for (size_t i = 0; i + 1 < stroke.size(); ++i) {
            for (int step = 1; step <= kSegmentsPerCurve; ++step) {
                const Point next = curve(stroke, i, double(step) / kSegmentsPerCurve);
                segments.push_back({pen, next});
                pen = next;
            }
        }
    }
    return segments;
}

Point centre_of_mass(const std::vector<Segment>& segments) {
    double x = 0, y = 0, total = 0;
    for (const auto& [from, to] : segments) {
        const double length = std::hypot(to.x - from.x, to.y - from.y);
        x += length * (from.x + to.x) / 2, y += length * (from.y + to.y) / 2, total += length;
    }
    return {x / total, y / total};
}

/// Moves the centre of mass to the image's middle, and scales so that the farthest point is `reach` pixels away from
/// there, to the side or up or down.
void fit(std::vector<Segment>& segments, double reach) {
    const Point centre = centre_of_mass(segments);
    double farthest = 0;
    for (const auto& [from, to] : segments) {
        for (const Point& p : {from, to}) {
            farthest = std::max({farthest, std::abs(p.x - centre.x), std::abs(p.y - centre.y)});
        }
    }
    const auto place = [&, scale = reach / farthest](const Point& p) {
        return Point{kDigitSize / 2.0 + scale * (p.x - centre.x), kDigitSize / 2.0 + scale * (p.y - centre.y)};
    };
    for (Segment& s : segments) s = {place(s.from), place(s.to)};
}

/// From the point to the nearest point of the segment.
double squared_distance(const Point& p, const Segment& segment) {
    const double dx = segment.to.x - segment.from.x, dy = segment.to.y - segment.from.y;
    const double px = p.x - segment.from.x, py = p.y - segment.from.y;
    const double t = std::clamp((px * dx + py * dy) / std::max(dx * dx + dy * dy, 1e-12), 0.0, 1.0);
    return (px - t * dx) * (px - t * dx) + (py - t * dy) * (py - t * dy);
}

/// From each pixel's centre to the nearest segment, squared.
using Distances = std::array<double, kDigitSize * kDigitSize>;

/// Lowers the distances of the pixels within `reach` of the segment. `fit` keeps all of them inside the image.
void approach(const Segment& segment, double reach, Distances& squared) {
    const auto [left, right] = std::minmax(segment.from.x, segment.to.x);
    const auto [top, bottom] = std::minmax(segment.from.y, segment.to.y);
    for (auto row = int64_t(top - reach); row <= int64_t(bottom + reach); ++row) {
        for (auto column = int64_t(left - reach); column <= int64_t(right + reach); ++column) {
            double& nearest = squared[size_t(row * kDigitSize + column)];
            nearest = std::min(nearest, squared_distance({column + 0.5, row + 0.5}, segment));
        }
    }
}

/// Inks every pixel by its distance to the nearest stroke, whose edge fades over `kEdge` pixels as in a scan.
void ink(const std::vector<Segment>& segments, double thickness, uint8_t* pixels) {
    constexpr double kEdge = 1.5;
    const double reach = (thickness + kEdge) / 2;
    Distances squared;
    squared.fill(reach * reach);
    for (const Segment& segment : segments) approach(segment, reach, squared);
    std::transform(squared.begin(), squared.end(), pixels,
                   [&](double d) { return uint8_t(std::lround(255 * std::min(1.0, (reach - std::sqrt(d)) / kEdge))); });
}

}  // namespace

void draw_digit(int label, uint64_t seed, uint64_t index, uint8_t* pixels) {
    TORCH_INTERNAL_ASSERT(0 <= label && label <= 9);
    Random random({seed, Purpose::kDigit, index, uint32_t(label)});
    const std::vector<Glyph>& ways = kWays[size_t(label)];
    Glyph glyph = ways[random.below(ways.size())];
    vary(glyph, random);
    std::vector<Segment> segments = trace(glyph);
    const double thickness = random.uniform(1.5, 3.5);
    fit(segments, kReach - thickness / 2);
    ink(segments, thickness, pixels);
}

Dataset draw_digits(const DatasetOptions& options, Split split) {
    constexpr int64_t kTrainDigits = 60'000, kClasses = 10;
    const bool training = split == Split::kTrain;
    const int64_t count = !training ? kMaxDrawnTest : options.limit > 0 ? options.limit : kTrainDigits;
    const uint64_t first = training ? 0 : uint64_t(kFirstDrawnTest), seed = uint64_t(options.seed);
    Dataset dataset = image_dataset(torch::empty({count, 1, kDigitSize, kDigitSize}, torch::kUInt8));
    dataset.condition.classes = torch::empty({count}, torch::kInt64);
    dataset.spec.condition.classes = kClasses;
    uint8_t* pixels = dataset.examples.data_ptr<uint8_t>();
    int64_t* labels = dataset.condition.classes.data_ptr<int64_t>();
    at::parallel_for(0, count, 64, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
            const uint64_t index = first + uint64_t(i);
            labels[i] = int64_t(Random({seed, Purpose::kLabel, index}).below(kClasses));
            draw_digit(int(labels[i]), seed, index, pixels + i * kDigitSize * kDigitSize);
        }
    });
    return dataset;
}

}  // namespace diffuse
