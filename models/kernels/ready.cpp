// Asks the operating system for what the build's instructions need.
#if defined(__AMX_BF16__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

// Whether this process, all its threads, may run the kernels. Linux hands out the tile registers of AMX on request.
extern "C" int ready() {
#if defined(__AMX_BF16__)
  constexpr long REQUEST_STATE = 0x1023, TILE_DATA = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, REQUEST_STATE, TILE_DATA) == 0;
#else
  return 1;
#endif
}
