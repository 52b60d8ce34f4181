#ifdef $trace
#define TRACE(tensor, size_bytes) ${name}_trace(#tensor, tensor, size_bytes)
#else
#define TRACE(tensor, size_bytes) ((void)(tensor))
#endif
#ifdef $profile
#define LAYER_DONE(layer) ${name}_layer_done(layer)
#else
#define LAYER_DONE(layer) ((void)0)
#endif
