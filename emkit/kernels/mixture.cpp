// Gaussian mixtures: the kernels specified in reference.py; and the module, with what the other sources define.

#include "gaussian.hpp"

// NB_MODULE pastes its argument, which is a macro here: one module per x86-64 level.
#define DEFINE_MODULE(name, module) NB_MODULE(name, module)

DEFINE_MODULE(EMKIT_MODULE, module) {
    using namespace emkit;
    Door<Full>::define(module, "full");
    Door<Tied>::define(module, "tied");
    Door<Diag>::define(module, "diag");
    Door<Spherical>::define(module, "spherical");
    define_missing(module);
    define_chain(module);
    module.def("processor_level", &processor_level);
}
