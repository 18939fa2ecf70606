// Softmax cross-entropy over a catalogue with both gradients, without the logits ever in memory.
//
// loss = mean over rows n of log sum_v exp(h_n . e_v) - h_n . e_(target n); gradients of h and e in the same call.
// Tiles of logits live in registers, become exponentials there, and are the operand of both gradients' products.
//
// The exponentials need no subtraction of the row's maximum while |h_n| max_v |e_v| is at most SAFE (Cauchy-Schwarz);
// beyond that a first pass finds the maxima. Every thread has a fixed share of the rows: the sums have a fixed order,
// and the same call on the same number of threads gives the same bits.
#include <omp.h>

#include <algorithm>
#include <cmath>

#include "tile.h"

namespace {

constexpr float SAFE = 60.f;
constexpr float LOG2_E = 1.44269504f;  // logits are in units of ln 2: exp becomes 2^x

struct Problem {
  const float* hidden;     // [rows, dim]
  const float* table;      // [items, dim]
  const int64_t* targets;  // [rows]
  float* grad_hidden;      // [rows, dim]
  float* grad_table;       // [items, dim]
  long rows, items, dim;
  int threads;
};

constexpr long ceil_div(long a, long b) { return (a + b - 1) / b; }
constexpr long round_to(long a, long b) { return ceil_div(a, b) * b; }

// Hands out pieces of one allocation, each on its own cache lines; with a null base it only counts.
struct Arena {
  char* base;
  size_t used = 0;
  template <class T>
  T* take(size_t count) {
    T* piece = base ? reinterpret_cast<T*>(base + used) : nullptr;
    used += round_to(count * sizeof(T), 64);
    return piece;
  }
};

float squares(const float* x, long n) {
  float total = 0;
  for (long i = 0; i < n; ++i) total += x[i] * x[i];
  return total;
}

// PACK rows of `dim` floats (null: zeros) as [width] elements that pair the rows: element d is (row 0, row 1) at d.
template <class M>
INLINE void pair_rows(const float* const (&row)[M::PACK], const float (&factor)[M::PACK], long dim, long width,
                      typename M::Element* to) {
  for (long d = 0; d < width; ++d) {
    float x[M::PACK];
    for (int j = 0; j < M::PACK; ++j) x[j] = row[j] && d < dim ? row[j][d] * factor[j] : 0.f;
    to[d] = M::element(x);
  }
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

// The rows of the table in the two layouts of the products.
template <class M>
struct Panels {
  typename M::Element* across;  // [panels, depth, ITEMS]: operand of the logits
  typename M::Element* along;   // [panels, ITEMS/PACK, width]: operand of the gradient of h
};

template <class M>
float pack_panel(const Problem& q, long panel, long width, const Panels<M>& to) {
  const long depth = width / M::PACK;
  float norm2 = 0;
  for (int i = 0; i < ITEMS; i += M::PACK) {
    const float* row[M::PACK];
    float one[M::PACK];
    for (int j = 0; j < M::PACK; ++j) {
      const long v = panel * ITEMS + i + j;
      row[j] = v < q.items ? q.table + v * q.dim : nullptr;
      one[j] = 1.f;
      if (row[j]) norm2 = std::max(norm2, squares(row[j], q.dim));
      pair_columns<M>(row[j], 1.f, q.dim, width, to.across + panel * depth * ITEMS + i + j, ITEMS);
    }
    pair_rows<M>(row, one, q.dim, width, to.along + (panel * ITEMS + i) / M::PACK * width);
  }
  return norm2;
}

// What one thread works on: a tile of up to TILE rows and its own sum of the table's gradient.
template <class M>
struct Worker {
  static constexpr long TILE = M::TILE;
  typename M::Element* rows;     // [TILE/ROWS, depth, ROWS]: operand of the logits
  typename M::Element* scaled;   // [TILE/PACK, width]: h/Z, operand of the table's gradient
  typename M::Element* weights;  // [panels, TILE/PACK, ITEMS]: exponentials, operand of the table's gradient
  typename M::Element* by_row;   // [ROWS, ITEMS/PACK]: exponentials, operand of the gradient of h
  float* grad_rows;              // [TILE, width]
  float* grad_items;             // [panels * ITEMS, width]
  Vec* sums;                     // [TILE]
  float* start;                  // [TILE]: minus the maximum of the row's logits, where it is needed

  void place(Arena& arena, long panels, long width) {
    rows = arena.take<typename M::Element>(TILE * width / M::PACK);
    scaled = arena.take<typename M::Element>(TILE / M::PACK * width);
    weights = arena.take<typename M::Element>(panels * (TILE / M::PACK) * ITEMS);
    by_row = arena.take<typename M::Element>(ROWS * ITEMS / M::PACK);
    grad_rows = arena.take<float>(TILE * width);
    grad_items = arena.take<float>(panels * ITEMS * width);
    sums = arena.take<Vec>(TILE);
    start = arena.take<float>(TILE);
  }
};

template <class M>
INLINE void logits(Vec (&tile)[ROWS][COLUMNS], const float* start, const typename M::Element* rows,
                   const typename M::Element* across, long depth) {
#pragma GCC unroll 16
  for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 8
    for (int c = 0; c < COLUMNS; ++c) tile[r][c] = broadcast(start[r]);
  multiply<M, 1, ROWS>(tile, rows, across, ITEMS, depth);
}

// 1 for the items of the last panel, 0 for what fills it up.
struct Mask {
  Vec real[COLUMNS];
  Mask(long items, long panels) {
    for (int c = 0; c < COLUMNS; ++c)
      for (int i = 0; i < WIDTH; ++i) real[c][i] = (panels - 1) * ITEMS + c * WIDTH + i < items ? 1.f : 0.f;
  }
};

// start = -(largest logit) for each row of the tile.
template <class M>
void find_maxima(const Worker<M>& w, const Panels<M>& table, const Mask& mask, long groups, long panels, long depth) {
  for (long g = 0; g < groups; ++g) {
    const float zero[ROWS] = {};
    Vec most[ROWS];
    for (int r = 0; r < ROWS; ++r) most[r] = broadcast(-3e38f);
    for (long p = 0; p < panels; ++p) {
      Vec tile[ROWS][COLUMNS];
      logits<M>(tile, zero, w.rows + g * depth * ROWS, table.across + p * depth * ITEMS, depth);
      for (int r = 0; r < ROWS; ++r)
        for (int c = 0; c < COLUMNS; ++c) {
          const Vec real = p + 1 < panels ? broadcast(1.f) : mask.real[c];
          most[r] = larger(most[r], real > 0.f ? tile[r][c] : broadcast(-3e38f));
        }
    }
    for (int r = 0; r < ROWS; ++r) {
      float top = most[r][0];
      for (int i = 1; i < WIDTH; ++i) top = std::max(top, most[r][i]);
      w.start[g * ROWS + r] = -top;
    }
  }
}

// The tile of rows first..first+count: its loss, its rows of grad_hidden, and (+)= into the worker's grad_items.
template <class M>
double work(const Problem& q, const Worker<M>& w, const Panels<M>& table, float norm, long first, long count,
            bool add) {
  const long width = round_to(q.dim, WIDTH), depth = width / M::PACK;
  const long panels = ceil_div(q.items, ITEMS), groups = ceil_div(count, ROWS);
  const Mask mask(q.items, panels);
  bool safe = true;
  for (long r = 0; r < groups * ROWS; ++r) {
    const float* row = r < count ? q.hidden + (first + r) * q.dim : nullptr;
    pair_columns<M>(row, LOG2_E, q.dim, width, w.rows + r / ROWS * depth * ROWS + r % ROWS, ROWS);
    if (row && !(std::sqrt(squares(row, q.dim)) * norm <= SAFE)) safe = false;
    w.start[r] = 0;
    w.sums[r] = Vec{};
  }
  if (!safe) find_maxima(w, table, mask, groups, panels, depth);

  for (long p = 0; p < panels; ++p)
    for (long g = 0; g < groups; ++g) {
      Vec tile[ROWS][COLUMNS];
      logits<M>(tile, w.start + g * ROWS, w.rows + g * depth * ROWS, table.across + p * depth * ITEMS, depth);
      Vec* sums = w.sums + g * ROWS;
#pragma GCC unroll 16
      for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 8
        for (int c = 0; c < COLUMNS; ++c) {
          tile[r][c] = power_of_two(tile[r][c]);
          if (p + 1 == panels) tile[r][c] *= mask.real[c];
          sums[r] += tile[r][c];
        }
      typename M::Element* by_item = w.weights + (p * M::TILE + g * ROWS) / M::PACK * ITEMS;
      typename M::Element* by_row = M::PACK == 1 ? by_item : w.by_row;
      M::keep(tile, by_row, by_item);
      for (int h = 0; h < ROWS; h += GRADIENT_ROWS)
        product<M, ITEMS / M::PACK, 1, GRADIENT_ROWS>(w.grad_rows + (g * ROWS + h) * width, width, p > 0,
                                                      by_row + h * (ITEMS / M::PACK),
                                                      table.along + p * ITEMS / M::PACK * width, ITEMS / M::PACK);
    }

  double loss = 0;
  const float share = 1.f / q.rows;
  for (long r = 0; r < groups * ROWS; r += M::PACK) {
    const float* row[M::PACK];
    float inverse[M::PACK];
    for (int j = 0; j < M::PACK; ++j) {
      row[j] = nullptr;
      inverse[j] = 0;
      if (r + j >= count) continue;
      const long n = first + r + j;
      row[j] = q.hidden + n * q.dim;
      const float* right = q.table + q.targets[n] * q.dim;
      const float z = sum(w.sums[r + j]);
      inverse[j] = 1.f / z;
      double score = 0;
      for (long d = 0; d < q.dim; ++d) {
        score += double(row[j][d]) * right[d];
        q.grad_hidden[n * q.dim + d] = (w.grad_rows[(r + j) * width + d] * inverse[j] - right[d]) * share;
      }
      loss += std::log(double(z)) - w.start[r + j] / double(LOG2_E) - score;
    }
    pair_rows<M>(row, inverse, q.dim, width, w.scaled + r / M::PACK * width);
  }

  for (long p = 0; p < panels; ++p)
    for (int i = 0; i < ITEMS; i += ITEM_ROWS)
      product<M, 1, ITEMS, ITEM_ROWS>(w.grad_items + (p * ITEMS + i) * width, width, add,
                                      w.weights + p * (M::TILE / M::PACK) * ITEMS + i, w.scaled,
                                      groups * ROWS / M::PACK);
  for (long r = 0; r < count; ++r) {
    const float* row = q.hidden + (first + r) * q.dim;
    float* item = w.grad_items + q.targets[first + r] * width;
    for (long d = 0; d < q.dim; ++d) item[d] -= row[d];
  }
  return loss;
}

// Returns the bytes of scratch that the problem needs; computes only with scratch.
template <class M>
size_t run(const Problem& q, char* scratch, double* loss) {
  const long width = round_to(q.dim, WIDTH), panels = ceil_div(q.items, ITEMS);
  const int threads = q.threads;
  Arena arena{scratch};
  Panels<M> table{arena.take<typename M::Element>(panels * ITEMS * width / M::PACK),
                  arena.take<typename M::Element>(panels * ITEMS * width / M::PACK)};
  double* losses = arena.take<double>(threads);
  float* norms = arena.take<float>(threads);
  Worker<M>* workers = arena.take<Worker<M>>(threads);
  for (int t = 0; t < threads; ++t) {
    Worker<M> w;
    w.place(arena, panels, width);
    if (scratch) workers[t] = w;
  }
  if (!scratch) return arena.used;

  const long tiles = round_to(ceil_div(q.rows, M::TILE), threads);
  const long step = round_to(ceil_div(q.rows, tiles), ROWS);
#pragma omp parallel num_threads(threads)
  {
    const int team = omp_get_num_threads();
    for (int t = omp_get_thread_num(); t < threads; t += team) {
      norms[t] = 0;
      for (long p = panels * t / threads; p < panels * (t + 1) / threads; ++p)
        norms[t] = std::max(norms[t], pack_panel<M>(q, p, width, table));
    }
#pragma omp barrier
    for (int t = omp_get_thread_num(); t < threads; t += team) {
      const float norm = std::sqrt(*std::max_element(norms, norms + threads));
      losses[t] = 0;
      bool add = false;
      for (long i = tiles * t / threads; i < tiles * (t + 1) / threads; ++i) {
        const long first = i * step, count = std::min(step, q.rows - first);
        if (count <= 0) break;
        losses[t] += work<M>(q, workers[t], table, norm, first, count, add);
        add = true;
      }
      if (!add) std::memset(workers[t].grad_items, 0, sizeof(float) * panels * ITEMS * width);
    }
#pragma omp barrier
    const float share = 1.f / q.rows;
    for (int t = omp_get_thread_num(); t < threads; t += team)
      for (long v = q.items * t / threads; v < q.items * (t + 1) / threads; ++v)
        for (long d = 0; d < q.dim; ++d) {
          float total = workers[0].grad_items[v * width + d];
          for (int k = 1; k < threads; ++k) total += workers[k].grad_items[v * width + d];
          q.grad_table[v * q.dim + d] = total * share;
        }
  }
  *loss = 0;
  for (int t = 0; t < threads; ++t) *loss += losses[t];
  *loss /= q.rows;
  return arena.used;
}

}  // namespace

// Bytes of scratch, 64-byte aligned; with scratch the mean loss and both gradients too.
extern "C" size_t cross_entropy(int bf16, const float* hidden, const float* table, const int64_t* targets,
                                float* grad_hidden, float* grad_table, long rows, long items, long dim, int threads,
                                char* scratch, double* loss) {
  const Problem q{hidden, table, targets, grad_hidden, grad_table, rows, items, dim, threads};
#if defined(__AVX512BF16__)
  if (bf16) return run<BFloat16>(q, scratch, loss);
#endif
  return bf16 ? 0 : run<Float32>(q, scratch, loss);
}
