// What the two orders of computation in cross_entropy.cpp share: operands, tiles of logits, their exponentials.
#pragma once
#include <algorithm>
#include <cmath>

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

  long width() const { return (dim + WIDTH - 1) / WIDTH * WIDTH; }
  long panels() const { return (items + ITEMS - 1) / ITEMS; }
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

// PACK rows of `dim` floats (null: zeros), each times its factor, as `width` elements that pair the rows.
template <class M>
INLINE void pair_rows(const float* const (&row)[M::PACK], const float (&factor)[M::PACK], long dim, long width,
                      typename M::Element* to) {
  for (long d = 0; d < width; ++d) {
    float x[M::PACK];
    for (int j = 0; j < M::PACK; ++j) x[j] = row[j] && d < dim ? row[j][d] * factor[j] : 0.f;
    to[d] = M::element(x);
  }
}

// A panel of the table in the layouts of the products, zeros beyond the last item. Returns its largest |e|^2.
//
// across: [depth, ITEMS], operand of the logits; along: [ITEMS/PACK, width], operand of the gradient of h.
template <class M>
float pack_panel(const Problem& q, long panel, typename M::Element* across, typename M::Element* along) {
  const long width = q.width();
  float norm2 = 0;
  for (int i = 0; i < ITEMS; i += M::PACK) {
    const float* row[M::PACK];
    float one[M::PACK];
    for (int j = 0; j < M::PACK; ++j) {
      const long item = panel * ITEMS + i + j;
      row[j] = item < q.items ? q.table + item * q.dim : nullptr;
      one[j] = 1.f;
      if (row[j]) norm2 = std::max(norm2, squares(row[j], q.dim));
      pair_columns<M>(row[j], 1.f, q.dim, width, across + i + j, ITEMS);
    }
    pair_rows<M>(row, one, q.dim, width, along + i / M::PACK * width);
  }
  return norm2;
}

// Rows first..first+count of h as [count/ROWS, depth, ROWS], operand of the logits, zeros beyond the last row.
// Returns the largest |h|^2.
template <class M>
float pack_rows(const Problem& q, long first, long count, typename M::Element* to) {
  const long width = q.width(), depth = width / M::PACK;
  float norm2 = 0;
  for (long r = 0; r < round_to(count, ROWS); ++r) {
    const float* row = r < count ? q.hidden + (first + r) * q.dim : nullptr;
    if (row) norm2 = std::max(norm2, squares(row, q.dim));
    pair_columns<M>(row, LOG2_E, q.dim, width, to + r / ROWS * depth * ROWS + r % ROWS, ROWS);
  }
  return norm2;
}

// Whether no logit can leave -SAFE..SAFE (Cauchy-Schwarz); false for what is not a number.
inline bool bounded(float rows_norm2, float table_norm2) {
  return std::sqrt(rows_norm2) * std::sqrt(table_norm2) <= SAFE;
}

// h . e / ln 2 + start for ROWS rows and one panel.
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
struct Mask {
  Vec real[COLUMNS];
  explicit Mask(const Problem& q) {
    for (int c = 0; c < COLUMNS; ++c)
      for (int i = 0; i < WIDTH; ++i) real[c][i] = (q.panels() - 1) * ITEMS + c * WIDTH + i < q.items ? 1.f : 0.f;
  }
};

// 2^logits as operands of both gradients, added to their row sums. Not inlined: its constants would take the
// registers of the logits.
template <class M>
__attribute__((noinline)) void exponentials(const Vec (&tile)[ROWS][COLUMNS], const Mask* mask, Vec* sums,
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

// top = max(top, logits of one panel) for ROWS rows; `mask` as above.
template <class M>
void raise_maxima(float* top, const typename M::Element* rows, const typename M::Element* across, long depth,
                  const Mask* mask) {
  const float zero[ROWS] = {};
  Vec tile[ROWS][COLUMNS];
  logits<M>(tile, zero, rows, across, depth);
  for (int r = 0; r < ROWS; ++r) {
    Vec most = broadcast(top[r]);
    for (int c = 0; c < COLUMNS; ++c)
      most = larger(most, mask ? (mask->real[c] > 0.f ? tile[r][c] : broadcast(LOWEST)) : tile[r][c]);
    for (int i = 0; i < WIDTH; ++i) top[r] = std::max(top[r], most[i]);
  }
}

// Adds the gradient of h through one panel: ROWS rows of exponentials times the panel's items.
template <class M>
INLINE void add_grad_rows(float* grad, long width, bool add, const typename M::Element* by_row,
                          const typename M::Element* along) {
  constexpr long pairs = ITEMS / M::PACK;
  for (int h = 0; h < ROWS; h += GRADIENT_ROWS)
    product<M, GRADIENT_ROWS>(grad + h * width, width, width, add, by_row + h * pairs, pairs, 1, along, width, pairs);
}

// Adds the gradient of one panel of items: `depth` elements of rows of exponentials times those rows of h.
template <class M>
INLINE void add_grad_items(float* grad, long width, bool add, const typename M::Element* by_item,
                           const typename M::Element* rows, long depth) {
  for (int i = 0; i < ITEMS; i += ITEM_ROWS)
    product<M, ITEM_ROWS>(grad + i * width, width, width, add, by_item + i, 1, ITEMS, rows, width, depth);
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
