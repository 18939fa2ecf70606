// Softmax sums in buckets of rows and items, and their gradients, without the logits ever in memory.
//
// A bucket names rows of h and items of the table; both are gathered into scratch and multiplied in register tiles.
// Buckets are dealt to threads in fixed shares and the shares are added in order: same call, same threads, same bits.
#include <cstring>

#include "softmax.h"

namespace {

typedef Float32 M;

struct Given {
  const float* hidden;       // [all rows, dim]
  const float* table;        // [all items, dim]
  const int64_t* positions;  // [buckets, b_x] rows of hidden
  const int64_t* items;      // [buckets, b_y] rows of the table
  const uint8_t* chosen;     // [buckets, b_x], null: all
  const float* total;        // [all rows]: weights are exp(h . e - total)
  float* sums;               // [buckets, b_x]: log of the sum of exp(h . e), in the first pass
  float* grad_hidden;        // [all rows, dim], added to in the second pass
  float* grad_table;         // [all items, dim], likewise
  int64_t buckets, b_x, b_y, n_items, dim;
};

struct Worker {
  float *hidden, *table;     // [b_x, dim], [b_y, dim]: one bucket's
  float *across, *along;     // [panels, depth * ITEMS]
  float *rows, *paired;      // [TILE/ROWS, depth, ROWS], [TILE, width]
  float *weights;            // [TILE, ITEMS]
  float *grad_rows;          // [TILE, width]
  float *grad_items;         // [panels * ITEMS, width]
  float *start;              // [TILE]
  Vec* tile_sums;            // [TILE]
  int64_t* places;           // [b_x]: chosen rows
  float* grad_table;         // [all items, dim]: the caller's for the first worker

  void place(Arena& arena, const Given& g, const Problem& q, bool first) {
    const long width = q.width(), panels = ceil_div(g.b_y, ITEMS);
    hidden = arena.take<float>(g.b_x * g.dim);
    table = arena.take<float>(g.b_y * g.dim);
    across = arena.take<float>(panels * ITEMS * width);
    along = arena.take<float>(panels * ITEMS * width);
    rows = arena.take<float>(M::TILE * width);
    paired = arena.take<float>(M::TILE * width);
    weights = arena.take<float>(M::TILE * ITEMS);
    grad_rows = arena.take<float>(M::TILE * width);
    grad_items = arena.take<float>(panels * ITEMS * width);
    start = arena.take<float>(M::TILE);
    tile_sums = arena.take<Vec>(M::TILE);
    places = arena.take<int64_t>(g.b_x);
    grad_table = !g.sums && !first ? arena.take<float>(g.n_items * g.dim) : g.grad_table;
  }

  // The rows and items of a bucket, next to each other. Returns how many rows there are.
  long gather(const Given& g, long bucket) {
    long count = 0;
    for (long i = 0; i < g.b_x; ++i) {
      const int64_t row = g.positions[bucket * g.b_x + i];
      if (g.chosen && !g.chosen[bucket * g.b_x + i]) continue;
      memcpy(hidden + count * g.dim, g.hidden + row * g.dim, g.dim * sizeof(float));
      places[count++] = row;
    }
    if (count)
      for (long i = 0; i < g.b_y; ++i)
        memcpy(table + i * g.dim, g.table + g.items[bucket * g.b_y + i] * g.dim, g.dim * sizeof(float));
    return count;
  }

  void run(const Given& g, long bucket) {
    const long count = gather(g, bucket);
    if (!count) return;
    const Problem q{hidden, table, nullptr, nullptr, nullptr, count, long(g.b_y), long(g.dim), 1};
    const long width = q.width(), panels = q.panels(), panel = ITEMS * width;
    const Mask<M> last(q);
    float norm2 = 0;
    for (long p = 0; p < panels; ++p)
      norm2 = std::max(norm2, pack_panel<M>(q, p, across + p * panel, along + p * panel));
    for (long first = 0; first < count; first += M::TILE) {
      const long tile = std::min(M::TILE, count - first);
      if (g.sums)
        sum_tile(g, q, last, norm2, bucket, first, tile);
      else
        weigh_tile(g, q, last, first, tile);
    }
    if (g.sums) return;
    for (long i = 0; i < g.b_y; ++i) {
      float* to = grad_table + g.items[bucket * g.b_y + i] * g.dim;
      for (long d = 0; d < g.dim; ++d) to[d] += grad_items[i * width + d];
    }
  }

  void sum_tile(const Given& g, const Problem& q, const Mask<M>& last, float norm2, long bucket, long first, long tile) {
    const long width = q.width(), panels = q.panels(), groups = ceil_div(tile, ROWS);
    const bool plain = bounded(pack_rows<M>(q, first, tile, rows), norm2);
    std::fill(tile_sums, tile_sums + groups * ROWS, Vec{});
    std::fill(start, start + groups * ROWS, plain ? 0.f : LOWEST);
    if (!plain) {
      for (long p = 0; p < panels; ++p)
        for (long r = 0; r < groups; ++r)
          raise_maxima<M>(start + r * ROWS, rows + r * width * ROWS, across + p * width * ITEMS, width,
                          p + 1 < panels ? nullptr : &last);
      for (long r = 0; r < groups * ROWS; ++r) start[r] = -start[r];
    }
    for (long p = 0; p < panels; ++p)
      for (long r = 0; r < groups; ++r) {
        weigh<M>(start + r * ROWS, rows + r * width * ROWS, across + p * width * ITEMS, width,
                 p + 1 < panels ? nullptr : &last, tile_sums + r * ROWS, weights, weights);
      }
    for (long r = 0; r < tile; ++r)
      g.sums[bucket * g.b_x + first + r] =
          float(std::log(double(sum(tile_sums[r]))) - double(start[r]) / double(LOG2_E));
  }

  void weigh_tile(const Given& g, const Problem& q, const Mask<M>& last, long first, long tile) {
    const long width = q.width(), panels = q.panels(), groups = ceil_div(tile, ROWS);
    pack_rows<M>(q, first, tile, rows);
    for (long r = 0; r < groups * ROWS; ++r) {
      start[r] = r < tile ? -g.total[places[first + r]] * LOG2_E : 0.f;
      const float* row[1] = {r < tile ? hidden + (first + r) * q.dim : nullptr};
      const float one[1] = {1.f};
      pair_rows<M>(row, one, q.dim, width, paired + r * width);
    }
    for (long p = 0; p < panels; ++p) {
      for (long r = 0; r < groups; ++r) {
        float* by_item = weights + r * ROWS * ITEMS;
        weigh<M>(start + r * ROWS, rows + r * width * ROWS, across + p * width * ITEMS, width,
                 p + 1 < panels ? nullptr : &last, tile_sums, by_item, by_item);
        add_grad_rows<M>(grad_rows + r * ROWS * width, width, p > 0, by_item, along + p * ITEMS * width);
      }
      add_grad_items<M>(grad_items + p * ITEMS * width, width, first > 0, weights, paired, groups * ROWS);
    }
    for (long r = 0; r < tile; ++r) {
      float* to = g.grad_hidden + places[first + r] * g.dim;
      for (long d = 0; d < g.dim; ++d) to[d] += grad_rows[r * width + d];
    }
  }
};

}  // namespace

// Returns the bytes of scratch that the call needs. With scratch, 64-byte aligned: with `sums` writes them, without adds
// both gradients; a row is chosen in one bucket at most. All rows and items that are named must exist.
extern "C" size_t bucket_softmax(const float* hidden, const float* table, const int64_t* positions, const int64_t* items,
                                 const uint8_t* chosen, const float* total, float* sums, float* grad_hidden,
                                 float* grad_table, int64_t buckets, int64_t b_x, int64_t b_y, int64_t n_items,
                                 int64_t dim, int threads, char* scratch) {
  const Given g{hidden,     table, positions, items, chosen, total, sums, grad_hidden,
                grad_table, buckets, b_x,     b_y,   n_items, dim};
  const Problem q{hidden, table, nullptr, nullptr, nullptr, long(b_x), long(b_y), long(dim), 1};
  Arena arena{scratch};
  Worker* workers = arena.take<Worker>(threads);
  for (int t = 0; t < threads; ++t) {
    Worker w{};
    w.place(arena, g, q, t == 0);
    if (scratch) workers[t] = w;
  }
  if (!scratch) return arena.used;

#pragma omp parallel num_threads(threads)
  {
    each_share(threads, [&](int t) {
      Worker& w = workers[t];
      if (!sums && t) std::fill(w.grad_table, w.grad_table + n_items * dim, 0.f);
      for (long b = buckets * t / threads; b < buckets * (t + 1) / threads; ++b) w.run(g, b);
    });
    if (!sums)
      each_share(threads, [&](int t) {
        for (long i = n_items * dim * t / threads; i < n_items * dim * (t + 1) / threads; ++i)
          for (int other = 1; other < threads; ++other) grad_table[i] += workers[other].grad_table[i];
      });
  }
  return arena.used;
}
