// What the two orders of computation in cross_entropy.cpp share: operands, tiles of logits, their exponentials.
#pragma once
#include <algorithm>
#include <cmath>

#include "amx.h"
#include "shares.h"
#include "tile.h"

constexpr float LOG2_E = 1.44269504f;  // tiles of logits are in units of ln 2, so that exp becomes 2^x
constexpr float SAFE = 60.f;           // largest |logit| whose exponential is taken without subtracting a maximum
constexpr float LOWEST = -3e38f;

struct Problem {
  const float* hidden;     // [rows, dim]
  const float* table;      // [items, dim]
  const int64_t* targets;  // [rows], in 0..items-1
  float* grad_hidden;      // [rows, dim]
  float* grad_table;       // [items, dim]
  long rows, items, dim;
  int threads;

  template <class M = Float32>
  long width() const {
    return round_to(dim, M::STEP);
  }
  template <class M = Float32>
  long panels() const {
    return ceil_div(items, M::PANEL);
  }
};

inline float squares(const float* x, long n) {
  float total = 0;
#pragma omp simd reduction(+ : total)
  for (long i = 0; i < n; ++i) total += x[i] * x[i];
  return total;
}

// One row of `dim` floats (null: zeros) times `factor` as width/PACK elements that pair neighbours, `step` apart.
template <class M>
INLINE void pair_columns(const float* row, float factor, long dim, long width, typename M::Element* to, long step) {
  for (long d = 0; d < width; d += M::PACK) {
    float x[M::PACK];
    for (int j = 0; j < M::PACK; ++j) x[j] = row && d + j < dim ? row[d + j] * factor : 0.f;
    to[d / M::PACK * step] = M::element(x);
  }
}

// PACK rows of `dim` floats (null: zeros), each times its factor, as `width` elements that pair the rows, `step` apart.
template <class M>
INLINE void pair_rows(const float* const (&row)[M::PACK], const float (&factor)[M::PACK], long dim, long width,
                      typename M::Element* to, long step = 1) {
  for (long d = 0; d < width; ++d) {
    float x[M::PACK];
    for (int j = 0; j < M::PACK; ++j) x[j] = row[j] && d < dim ? row[j][d] * factor[j] : 0.f;
    to[d * step] = M::element(x);
  }
}

// WIDTH rows of PACK * WIDTH floats, `row` floats apart, as elements that pair neighbours, turned:
// element k of row i at to[k * step + i].
template <class M>
INLINE void turn_rows(const float* x, long row, typename M::Element* to, long step) {
  Vec t[WIDTH];
  for (int r = 0; r < WIDTH; ++r) M::across(x + r * row, reinterpret_cast<typename M::Element*>(t + r));
  transpose(t);
  for (int r = 0; r < WIDTH; ++r) store(reinterpret_cast<float*>(to + r * step), t[r]);
}

// A panel of the table in the layouts of the products, zeros beyond the last item. Returns its largest |e|^2.
//
// across: [depth, PANEL], operand of the logits; along: [PANEL/PACK, width], operand of the gradient of h.
template <class M>
float pack_panel(const Problem& q, long panel, typename M::Element* across, typename M::Element* along) {
  constexpr int STEP = M::PACK * WIDTH;
  const long width = q.width<M>(), first = panel * M::PANEL;
  float norm2 = 0;
  for (long v = first; v < std::min(first + M::PANEL, q.items); ++v)
    norm2 = std::max(norm2, squares(q.table + v * q.dim, q.dim));
  int i = 0;
  if (q.dim % STEP == 0 && q.dim == width)
    for (; i + STEP <= M::PANEL && first + i + STEP <= q.items; i += STEP) {
      const float* x = q.table + (first + i) * q.dim;
      for (long d = 0; d < width; d += STEP)
        for (int j = 0; j < STEP; j += WIDTH)
          turn_rows<M>(x + j * q.dim + d, q.dim, across + d / M::PACK * M::PANEL + i + j, M::PANEL);
      for (int j = 0; j < STEP; j += M::PACK)
        for (long d = 0; d < width; d += WIDTH)
          M::along(x + j * q.dim + d, q.dim, along + (i + j) / M::PACK * width + d);
    }
  for (; i < M::PANEL; i += M::PACK) {
    const float* row[M::PACK];
    float one[M::PACK];
    for (int j = 0; j < M::PACK; ++j) {
      const long item = first + i + j;
      row[j] = item < q.items ? q.table + item * q.dim : nullptr;
      one[j] = 1.f;
      pair_columns<M>(row[j], 1.f, q.dim, width, across + i + j, M::PANEL);
    }
    pair_rows<M>(row, one, q.dim, width, along + i / M::PACK * width);
  }
  return norm2;
}

// Rows first..first+count of h, operand of the logits, in whole groups, zeros beyond the last row: for vectors
// [count/GROUP, depth, GROUP], for AMX [count, depth]. Returns the largest |h|^2.
template <class M>
float pack_rows(const Problem& q, long first, long count, typename M::Element* to) {
  const long width = q.width<M>(), depth = width / M::PACK;
  float norm2 = 0;
  for (long r = 0; r < round_to(count, M::GROUP); ++r) {
    const float* row = r < count ? q.hidden + (first + r) * q.dim : nullptr;
    if (row) norm2 = std::max(norm2, squares(row, q.dim));
    if constexpr (M::TILES) M::row(row, LOG2_E, q.dim, width, to + r * depth);
    else pair_columns<M>(row, LOG2_E, q.dim, width, to + r / M::GROUP * depth * M::GROUP + r % M::GROUP, M::GROUP);
  }
  return norm2;
}

// Whether no logit can leave -SAFE..SAFE (Cauchy-Schwarz); false for what is not a number.
inline bool bounded(float rows_norm2, float table_norm2) {
  return std::sqrt(rows_norm2) * std::sqrt(table_norm2) <= SAFE;
}

// h . e / ln 2 + start for ROWS rows and one panel, by vectors.
template <class M>
INLINE void logits(Vec (&out)[ROWS][COLUMNS], const float* start, const typename M::Element* rows,
                   const typename M::Element* across, long depth) {
  Vec tile[ROWS][COLUMNS];
#pragma GCC unroll 16
  for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 8
    for (int c = 0; c < COLUMNS; ++c) tile[r][c] = broadcast(start[r]);
  multiply<M>(tile, rows, 1, ROWS, across, ITEMS, depth);
#pragma GCC unroll 16
  for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 8
    for (int c = 0; c < COLUMNS; ++c) out[r][c] = tile[r][c];
}

// 1 for the items of the last panel, 0 for what fills it up.
template <class M>
struct Mask {
  Vec real[M::PANEL / WIDTH];
  explicit Mask(const Problem& q) {
    for (int c = 0; c < M::PANEL / WIDTH; ++c)
      for (int i = 0; i < WIDTH; ++i)
        real[c][i] = (q.panels<M>() - 1) * M::PANEL + c * WIDTH + i < q.items ? 1.f : 0.f;
  }
};

// 2^logits as operands of both gradients, added to their row sums. Not inlined: its constants would take the
// registers of the logits.
template <class M>
__attribute__((noinline)) void exponentials(const Vec (&tile)[ROWS][COLUMNS], const Mask<M>* mask, Vec* sums,
                                            typename M::Element* by_row, typename M::Element* by_item) {
  for (int r = 0; r < ROWS; r += M::PACK) {
    Vec p[M::PACK][COLUMNS];
#pragma GCC unroll 2
    for (int j = 0; j < M::PACK; ++j) {
#pragma GCC unroll 8
      for (int c = 0; c < COLUMNS; ++c) p[j][c] = power_of_two(tile[r + j][c]);
      if (mask)
        for (int c = 0; c < COLUMNS; ++c) p[j][c] = mask->real[c] > 0.f ? p[j][c] : Vec{};
#pragma GCC unroll 8
      for (int c = 0; c < COLUMNS; ++c) sums[r + j] += p[j][c];
    }
    M::keep(p, by_row + r * (ITEMS / M::PACK), by_item + r / M::PACK * ITEMS);
  }
}

// One group of rows and one panel: exp(h . e) times 2^start, added to the rows' sums, as operands of both gradients;
// by_row: [GROUP, PANEL/PACK], by_item: [GROUP/PACK, PANEL], with AMX its items in the order of `place`.
template <class M>
INLINE void weigh(const float* start, const typename M::Element* rows, const typename M::Element* across, long depth,
                  const Mask<M>* mask, Vec* sums, typename M::Element* by_row, typename M::Element* by_item) {
  if constexpr (M::TILES) {
    constexpr int COUNT = M::PANEL / WIDTH;
    alignas(64) float block[M::GROUP * M::PANEL];
    M::product(block, M::PANEL, M::PANEL, nullptr, 0, rows, depth, across, M::PANEL, depth);
    for (int r = 0; r < M::GROUP; r += 2) {
      Vec p[2][COUNT];
#pragma GCC unroll 2
      for (int j = 0; j < 2; ++j) {
        const Vec first = broadcast(start[r + j]);
        Vec total = sums[r + j];
#pragma GCC unroll 8
        for (int c = 0; c < COUNT; ++c) p[j][c] = power_of_two(load(block + (r + j) * M::PANEL + c * WIDTH) + first);
        if (mask)
          for (int c = 0; c < COUNT; ++c) p[j][c] = mask->real[c] > 0.f ? p[j][c] : Vec{};
#pragma GCC unroll 8
        for (int c = 0; c < COUNT; ++c) total += p[j][c];
        sums[r + j] = total;
      }
      M::keep(p, by_row + r * (M::PANEL / 2), by_item + r / 2 * M::PANEL);
    }
  } else {
    Vec block[ROWS][COLUMNS];
    logits<M>(block, start, rows, across, depth);
    exponentials<M>(block, mask, sums, by_row, by_item);
  }
}

// top = max(top, logits of one panel) for a group of rows; `mask` as above.
template <class M>
void raise_maxima(float* top, const typename M::Element* rows, const typename M::Element* across, long depth,
                  const Mask<M>* mask) {
  constexpr int COUNT = M::PANEL / WIDTH;
  Vec tile[M::GROUP][COUNT];
  if constexpr (M::TILES)
    M::product(reinterpret_cast<float*>(tile), M::PANEL, M::PANEL, nullptr, 0, rows, depth, across, M::PANEL, depth);
  else {
    const float zero[ROWS] = {};
    logits<M>(tile, zero, rows, across, depth);
  }
  for (int r = 0; r < M::GROUP; ++r) {
    Vec most = broadcast(top[r]);
    for (int c = 0; c < COUNT; ++c)
      most = larger(most, mask ? (mask->real[c] > 0.f ? tile[r][c] : broadcast(LOWEST)) : tile[r][c]);
    for (int i = 0; i < WIDTH; ++i) top[r] = std::max(top[r], most[i]);
  }
}

// Adds the gradient of h through one panel: a group of rows of exponentials times the panel's items.
template <class M>
INLINE void add_grad_rows(float* grad, long width, bool add, const typename M::Element* by_row,
                          const typename M::Element* along) {
  constexpr long pairs = M::PANEL / M::PACK;
  if constexpr (M::TILES) M::product(grad, width, width, add ? grad : nullptr, width, by_row, pairs, along, width, pairs);
  else
    for (int h = 0; h < ROWS; h += GRADIENT_ROWS)
      product<M, GRADIENT_ROWS>(grad + h * width, width, width, add, by_row + h * pairs, pairs, 1, along, width, pairs);
}

// Rows from..to of h, each divided by the sum of its exponentials, as operand of the gradient of the items, zeros from
// row `count` on: for vectors [., width] pairs of rows, for AMX tile after tile as [width, TILE/PACK].
// `from` and `to` are whole groups.
template <class M>
INLINE void scale_rows(const Problem& q, const float* hidden, const float* inverse, long from, long to, long count,
                       typename M::Element* out) {
  const long width = q.width<M>();
  constexpr long pairs = M::TILES ? M::TILE / M::PACK : 1;
  for (long r = from; r < to;) {
    typename M::Element* place = M::TILES ? out + r / M::TILE * pairs * width + r % M::TILE / M::PACK : out + r / M::PACK * width;
    if constexpr (M::TILES)
      if (q.dim == width && r % M::GROUP == 0 && r + M::GROUP <= count) {
        for (long d = 0; d < width; d += WIDTH)
          M::turn_pairs(hidden + r * q.dim + d, q.dim, inverse + r, place + d * pairs, pairs);
        r += M::GROUP;
        continue;
      }
    const float* row[M::PACK];
    float factor[M::PACK];
    for (int j = 0; j < M::PACK; ++j) {
      row[j] = r + j < count ? hidden + (r + j) * q.dim : nullptr;
      factor[j] = inverse[r + j];
    }
    pair_rows<M>(row, factor, q.dim, width, place, pairs);
    r += M::PACK;
  }
}

// Adds the gradient of one panel of items: `depth` elements of rows of exponentials times those rows of h.
template <class M>
INLINE void add_grad_items(float* grad, long width, bool add, const typename M::Element* by_item,
                           const typename M::Element* rows, long depth) {
  if constexpr (M::TILES) {
    constexpr long pairs = M::TILE / M::PACK;
    for (long d = 0; d < width; d += M::GROUP)
      M::product(grad + d * M::PANEL, M::PANEL, M::PANEL, add ? grad + d * M::PANEL : nullptr, M::PANEL, rows + d * pairs,
                 pairs, by_item, M::PANEL, depth);
  } else
    for (int i = 0; i < ITEMS; i += ITEM_ROWS)
      product<M, ITEM_ROWS>(grad + i * width, width, width, add, by_item + i, 1, ITEMS, rows, width, depth);
}

// Where that gradient has dimension d of an item: panel after panel, for AMX as [width, PANEL].
template <class M>
INLINE long grad_place(long width, long item, long d) {
  if constexpr (M::TILES) return item / M::PANEL * M::PANEL * width + d * M::PANEL + M::place(item % M::PANEL);
  else return item * width + d;
}

// grad_table of one panel's items = (add: itself) + share * the sum of `parts` such gradients, `apart` floats apart.
template <class M>
void write_items(const Problem& q, long panel, const float* grad, int parts, long apart, bool add) {
  const long width = q.width<M>(), first = panel * M::PANEL, count = std::min(long(M::PANEL), q.items - first);
  const float share = 1.f / q.rows;
  float* to = q.grad_table + first * q.dim;
  if constexpr (M::TILES)
    if (count == M::PANEL && q.dim % WIDTH == 0) {
      for (long d = 0; d < q.dim; d += WIDTH)
        for (long c = 0; c < M::PANEL; c += WIDTH) {
          Vec t[WIDTH];
          for (int r = 0; r < WIDTH; ++r) {
            t[r] = load(grad + (d + r) * M::PANEL + c);
            for (int k = 1; k < parts; ++k) t[r] += load(grad + k * apart + (d + r) * M::PANEL + c);
          }
          transpose(t);
          for (int r = 0; r < WIDTH; ++r) {
            float* own = to + M::item(c + r) * q.dim + d;
            store(own, (add ? load(own) : Vec{}) + t[r] * share);
          }
        }
      return;
    }
  for (long v = 0; v < count; ++v)
    for (long d = 0; d < q.dim; ++d) {
      const long place = grad_place<M>(width, v, d);
      float total = grad[place];
      for (int k = 1; k < parts; ++k) total += grad[k * apart + place];
      to[v * q.dim + d] = (add ? to[v * q.dim + d] : 0.f) + total * share;
    }
}

// Row n given its sum z of 2^(logit + start) and `grad` = sum of those times e: writes grad_hidden, returns the loss.
inline double finish_row(const Problem& q, long n, float z, float start, const float* grad) {
  const float* own = q.hidden + n * q.dim;
  const float* right = q.table + q.targets[n] * q.dim;
  float* out = q.grad_hidden + n * q.dim;
  const float share = 1.f / q.rows, scale = share / z;
  float score = 0;
#pragma omp simd reduction(+ : score)
  for (long d = 0; d < q.dim; ++d) {
    score += own[d] * right[d];
    out[d] = grad[d] * scale - right[d] * share;
  }
  return std::log(double(z)) - double(start) / double(LOG2_E) - double(score);
}
