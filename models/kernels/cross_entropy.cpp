// Softmax cross-entropy over a catalogue with both gradients, without the logits ever in memory.
//
// loss = mean over rows n of log sum_v exp(h_n . e_v) - h_n . e_(target n); gradients of h and e in the same call.
// Tiles of logits live in registers (with AMX in the first cache), become exponentials there, and are the operand of both
// gradients' products.
// Two orders of computation, the same sums:
//   by_rows   every thread owns rows; a tile of rows keeps its exponentials of all items until their sums are known,
//             so the logits are made once. Scratch grows with the catalogue times the threads.
//   by_items  every thread owns items; the logits are made again for the table's gradient, when the sums are known.
//             Scratch does not depend on the catalogue.
// A maximum is subtracted only where a bound on the logits asks for it. Shares are fixed, so sums have a fixed order:
// the same call on the same number of threads gives the same bits.
#include "softmax.h"

namespace {

template <class M>
struct RowWorker {
  typename M::Element* rows;     // as pack_rows lays them out
  typename M::Element* scaled;   // as scale_rows lays them out: h divided by the row's sum
  typename M::Element* weights;  // [panels, TILE/PACK, PANEL]: exponentials of the tile
  typename M::Element* by_row;   // [GROUP, PANEL/PACK]
  float* grad_rows;              // [TILE, width]
  float* grad_items;             // [panels * PANEL, width], at grad_place
  Vec* sums;                     // [TILE]
  float *start, *inverse;        // [TILE]
  float norm2;
  double loss;

  void place(Arena& arena, const Problem& q) {
    const long width = q.width<M>(), depth = width / M::PACK;
    rows = arena.take<typename M::Element>(M::TILE * depth);
    scaled = arena.take<typename M::Element>(M::TILE / M::PACK * width);
    weights = arena.take<typename M::Element>(q.panels<M>() * (M::TILE / M::PACK) * M::PANEL);
    by_row = arena.take<typename M::Element>(M::GROUP * M::PANEL / M::PACK);
    grad_rows = arena.take<float>(M::TILE * width);
    grad_items = arena.take<float>(q.panels<M>() * M::PANEL * width);
    sums = arena.take<Vec>(M::TILE);
    start = arena.take<float>(M::TILE);
    inverse = arena.take<float>(M::TILE);
  }

  // Rows first..first+count, at most TILE: their loss, their grad_hidden, and grad_items (+)= theirs.
  void tile(const Problem& q, const typename M::Element* across, const typename M::Element* along, float table_norm2,
            long first, long count, bool add) {
    const long width = q.width<M>(), depth = width / M::PACK, panels = q.panels<M>(), groups = ceil_div(count, M::GROUP);
    const Mask<M> last(q);
    const bool plain = bounded(pack_rows<M>(q, first, count, rows), table_norm2);
    std::fill(sums, sums + groups * M::GROUP, Vec{});
    std::fill(start, start + groups * M::GROUP, plain ? 0.f : LOWEST);
    if (!plain) {
      for (long p = 0; p < panels; ++p)
        for (long g = 0; g < groups; ++g)
          raise_maxima<M>(start + g * M::GROUP, rows + g * depth * M::GROUP, across + p * depth * M::PANEL, depth,
                          p + 1 < panels ? nullptr : &last);
      for (long r = 0; r < groups * M::GROUP; ++r) start[r] = -start[r];
    }

    for (long p = 0; p < panels; ++p)
      for (long g = 0; g < groups; ++g) {
        typename M::Element* by_item = weights + (p * M::TILE + g * M::GROUP) / M::PACK * M::PANEL;
        typename M::Element* by_row_now = M::PACK == 1 ? by_item : by_row;
        weigh<M>(start + g * M::GROUP, rows + g * depth * M::GROUP, across + p * depth * M::PANEL, depth,
                 p + 1 < panels ? nullptr : &last, sums + g * M::GROUP, by_row_now, by_item);
        add_grad_rows<M>(grad_rows + g * M::GROUP * width, width, p > 0, by_row_now, along + p * M::PANEL / M::PACK * width);
      }

    for (long r = 0; r < groups * M::GROUP; ++r) {
      const float z = sum(sums[r]);
      inverse[r] = 1.f / z;
      if (r < count) loss += finish_row(q, first + r, z, start[r], grad_rows + r * width);
    }
    scale_rows<M>(q, q.hidden + first * q.dim, inverse, 0, groups * M::GROUP, count, scaled);

    for (long p = 0; p < panels; ++p)
      add_grad_items<M>(grad_items + p * M::PANEL * width, width, add, weights + p * (M::TILE / M::PACK) * M::PANEL, scaled,
                        groups * M::GROUP / M::PACK);
    for (long n = first; n < first + count; ++n)
      for (long d = 0; d < q.dim; ++d) grad_items[grad_place<M>(width, q.targets[n], d)] -= q.hidden[n * q.dim + d];
  }
};

template <class M>
size_t by_rows(const Problem& q, char* scratch, double* loss) {
  typedef typename M::Element Element;
  const long width = q.width<M>(), panels = q.panels<M>(), panel = M::PANEL * width / M::PACK;
  const int threads = q.threads;
  Arena arena{scratch};
  Element* across = arena.take<Element>(panels * panel);
  Element* along = arena.take<Element>(panels * panel);
  RowWorker<M>* workers = arena.take<RowWorker<M>>(threads);
  for (int t = 0; t < threads; ++t) {
    RowWorker<M> w{};
    w.place(arena, q);
    if (scratch) workers[t] = w;
  }
  if (!scratch) return arena.used;

  const long tiles = round_to(ceil_div(q.rows, M::TILE), threads);
  const long step = round_to(ceil_div(q.rows, tiles), M::GROUP);
#pragma omp parallel num_threads(threads)
  {
    [[maybe_unused]] const typename M::Session session;
    each_share(threads, [&](int t) {
      for (long p = panels * t / threads; p < panels * (t + 1) / threads; ++p)
        workers[t].norm2 = std::max(workers[t].norm2, pack_panel<M>(q, p, across + p * panel, along + p * panel));
    });
    each_share(threads, [&](int t) {
      float norm2 = 0;
      for (int k = 0; k < threads; ++k) norm2 = std::max(norm2, workers[k].norm2);
      bool add = false;
      for (long i = tiles * t / threads; i < tiles * (t + 1) / threads && i * step < q.rows; ++i, add = true)
        workers[t].tile(q, across, along, norm2, i * step, std::min(step, q.rows - i * step), add);
      if (!add) std::fill(workers[t].grad_items, workers[t].grad_items + panels * M::PANEL * width, 0.f);
    });
    each_share(threads, [&](int t) {
      for (long p = panels * t / threads; p < panels * (t + 1) / threads; ++p) {
        const float* grad = workers[0].grad_items;
        const long apart = threads > 1 ? workers[1].grad_items - grad : 0;
        write_items<M>(q, p, grad + p * M::PANEL * width, threads, apart, false);
      }
    });
  }
  *loss = 0;
  for (int t = 0; t < threads; ++t) *loss += workers[t].loss / q.rows;
  return arena.used;
}

constexpr long BLOCK = 8;     // panels that are packed at a time
constexpr long CHUNK = 4096;  // rows of h that are worked on at a time

template <class M>
struct ItemWorker {
  typename M::Element* across;   // [BLOCK, depth, PANEL]
  typename M::Element* along;    // [BLOCK, PANEL/PACK, width]
  typename M::Element* weights;  // [TILE/PACK, PANEL]
  typename M::Element* by_row;   // [GROUP, PANEL/PACK]
  float* grad_rows;              // [CHUNK, width]: through this thread's items
  float* grad_items;             // [PANEL, width], at grad_place
  Vec* sums;                     // [CHUNK]: of this thread's items
  float* top;                    // [CHUNK]: largest logit of this thread's items
  float table_norm2, rows_norm2;
  double loss;

  void place(Arena& arena, const Problem& q, long chunk) {
    const long width = q.width<M>(), panel = M::PANEL * width / M::PACK;
    across = arena.take<typename M::Element>(BLOCK * panel);
    along = arena.take<typename M::Element>(BLOCK * panel);
    weights = arena.take<typename M::Element>(M::TILE / M::PACK * M::PANEL);
    by_row = arena.take<typename M::Element>(M::GROUP * M::PANEL / M::PACK);
    grad_rows = arena.take<float>(chunk * width);
    grad_items = arena.take<float>(M::PANEL * width);
    sums = arena.take<Vec>(chunk);
    top = arena.take<float>(chunk);
  }
};

template <class M>
size_t by_items(const Problem& q, char* scratch, double* loss) {
  typedef typename M::Element Element;
  const long width = q.width<M>(), depth = width / M::PACK, panel = M::PANEL * depth, panels = q.panels<M>();
  const long chunk = std::min(CHUNK, round_to(q.rows, M::TILE));
  const int threads = q.threads;
  Arena arena{scratch};
  Element* rows = arena.take<Element>(chunk * depth);           // as pack_rows lays them out
  Element* scaled = arena.take<Element>(chunk / M::PACK * width);  // as scale_rows does: h divided by the sum
  float* start = arena.take<float>(chunk);
  float* inverse = arena.take<float>(chunk);
  ItemWorker<M>* workers = arena.take<ItemWorker<M>>(threads);
  for (int t = 0; t < threads; ++t) {
    ItemWorker<M> w{};
    w.place(arena, q, chunk);
    if (scratch) workers[t] = w;
  }
  if (!scratch) return arena.used;

  const Mask<M> last(q);
  auto mask_of = [&](long p) { return p + 1 < panels ? nullptr : &last; };
  // f(worker, first, count) for the panels of share t, a block of them at a time, packed.
  auto each_block = [&](int t, auto f) {
    ItemWorker<M>& w = workers[t];
    const long stop = panels * (t + 1) / threads;
    for (long b = panels * t / threads; b < stop; b += BLOCK) {
      const long count = std::min(BLOCK, stop - b);
      for (long i = 0; i < count; ++i) pack_panel<M>(q, b + i, w.across + i * panel, w.along + i * panel);
      f(w, b, count);
    }
  };
#pragma omp parallel num_threads(threads)
  {
    [[maybe_unused]] const typename M::Session session;
    each_share(threads, [&](int t) {
      float& norm2 = workers[t].table_norm2;
      for (long v = q.items * t / threads; v < q.items * (t + 1) / threads; ++v)
        norm2 = std::max(norm2, squares(q.table + v * q.dim, q.dim));
    });
    float table_norm2 = 0;
    for (int k = 0; k < threads; ++k) table_norm2 = std::max(table_norm2, workers[k].table_norm2);

    for (long first = 0; first < q.rows; first += chunk) {
      const long count = std::min(chunk, q.rows - first), groups = ceil_div(count, M::GROUP);
      each_share(threads, [&](int t) {
        const long from = groups * t / threads * M::GROUP, to = std::min(groups * (t + 1) / threads * M::GROUP, count);
        if (from < to) workers[t].rows_norm2 = pack_rows<M>(q, first + from, to - from, rows + from * depth);
        std::fill(start + from, start + round_to(std::max(from, to), M::GROUP), 0.f);
      });

      float rows_norm2 = 0;
      for (int k = 0; k < threads; ++k) rows_norm2 = std::max(rows_norm2, workers[k].rows_norm2);
      if (!bounded(rows_norm2, table_norm2)) {
        each_share(threads, [&](int t) {
          std::fill(workers[t].top, workers[t].top + groups * M::GROUP, LOWEST);
          each_block(t, [&](ItemWorker<M>& w, long b, long n) {
            for (long g = 0; g < groups; ++g)
              for (long i = 0; i < n; ++i)
                raise_maxima<M>(w.top + g * M::GROUP, rows + g * depth * M::GROUP, w.across + i * panel, depth, mask_of(b + i));
          });
        });
        each_share(threads, [&](int t) {
          for (long r = groups * t / threads * M::GROUP; r < groups * (t + 1) / threads * M::GROUP; ++r) {
            float top = LOWEST;
            for (int k = 0; k < threads; ++k) top = std::max(top, workers[k].top[r]);
            start[r] = -top;
          }
        });
      }

      each_share(threads, [&](int t) {
        std::fill(workers[t].sums, workers[t].sums + groups * M::GROUP, Vec{});
        std::fill(workers[t].grad_rows, workers[t].grad_rows + groups * M::GROUP * width, 0.f);
        each_block(t, [&](ItemWorker<M>& w, long b, long n) {
          for (long g = 0; g < groups; ++g)
            for (long i = 0; i < n; ++i) {
              Element* by_row = M::PACK == 1 ? w.weights : w.by_row;
              weigh<M>(start + g * M::GROUP, rows + g * depth * M::GROUP, w.across + i * panel, depth, mask_of(b + i),
                       w.sums + g * M::GROUP, by_row, w.weights);
              add_grad_rows<M>(w.grad_rows + g * M::GROUP * width, width, true, by_row, w.along + i * panel);
            }
        });
      });
      each_share(threads, [&](int t) {
        const long from = groups * t / threads * M::GROUP, to = groups * (t + 1) / threads * M::GROUP;
        for (long r = from; r < to; ++r) {
          float z = 0;
          for (int k = 0; k < threads; ++k) z += sum(workers[k].sums[r]);
          float* grad = workers[0].grad_rows + r * width;
          for (int k = 1; k < threads; ++k)
            for (long d = 0; d < width; ++d) grad[d] += workers[k].grad_rows[r * width + d];
          inverse[r] = 1.f / z;
          if (r < count) workers[t].loss += finish_row(q, first + r, z, start[r], grad);
        }
        scale_rows<M>(q, q.hidden + first * q.dim, inverse, from, to, count, scaled);
      });

      each_share(threads, [&](int t) {
        const float share = 1.f / q.rows;
        const long from = panels * t / threads * M::PANEL, to = std::min(panels * (t + 1) / threads * M::PANEL, q.items);
        each_block(t, [&](ItemWorker<M>& w, long b, long n) {
          for (long i = 0; i < n; ++i) {
            for (long r = 0; r < groups * M::GROUP; r += M::TILE) {
              const long tile = std::min(M::TILE, groups * M::GROUP - r);
              for (long g = 0; g < tile / M::GROUP; ++g) {
                Vec sums[M::GROUP] = {};
                weigh<M>(start + r + g * M::GROUP, rows + (r + g * M::GROUP) * depth, w.across + i * panel, depth,
                         mask_of(b + i), sums, w.by_row, w.weights + g * M::GROUP / M::PACK * M::PANEL);
              }
              add_grad_items<M>(w.grad_items, width, r > 0, w.weights, scaled + r / M::PACK * width, tile / M::PACK);
            }
            write_items<M>(q, b + i, w.grad_items, 1, 0, first > 0);
          }
        });
        for (long n = first; n < first + count; ++n)
          if (const long v = q.targets[n]; v >= from && v < to)
            for (long d = 0; d < q.dim; ++d) q.grad_table[v * q.dim + d] -= q.hidden[n * q.dim + d] * share;
      });
    }
  }
  *loss = 0;
  for (int t = 0; t < threads; ++t) *loss += workers[t].loss / q.rows;
  return arena.used;
}

enum Order { CHOOSE, BY_ROWS, BY_ITEMS };

template <class M>
size_t run(const Problem& q, int order, char* scratch, double* loss) {
  const bool many = order == CHOOSE ? q.items > M::MANY_ITEMS : order == BY_ITEMS;
  return many ? by_items<M>(q, scratch, loss) : by_rows<M>(q, scratch, loss);
}

}  // namespace

// Returns the bytes of scratch that the call needs, 0 where this build has no such precision. With scratch, 64-byte
// aligned, writes the mean loss and both gradients.
extern "C" size_t cross_entropy(int bf16, int order, const float* hidden, const float* table, const int64_t* targets,
                                float* grad_hidden, float* grad_table, int64_t rows, int64_t items, int64_t dim,
                                int threads, char* scratch, double* loss) {
  const Problem q{hidden, table, targets, grad_hidden, grad_table, rows, items, dim, threads};
  if (!bf16) return run<Float32>(q, order, scratch, loss);
#if defined(__AVX512BF16__)
  return run<Half>(q, order, scratch, loss);
#else
  return 0;
#endif
}
