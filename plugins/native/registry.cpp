// How a process finds the plugins, and where their messages go. Nothing of TensorRT is linked.
#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <vector>

#include <dlfcn.h>

#include "plugin.h"

namespace fastadasp {

ILoggerFinder* gLoggerFinder = nullptr;

void report(char const* format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (ILogger* logger = gLoggerFinder ? gLoggerFinder->findLogger() : nullptr) {
        logger->log(ILogger::Severity::kERROR, text);
    } else {
        fprintf(stderr, "fastadasp plugins: %s\n", text);
    }
}

namespace {

IPluginCreatorInterface* const gCreators[]
    = {&attentionMassCreator(), &mergeTokensCreator(), &mergeEdgesCreator(), &evictTokensCreator()};

// Where a TensorRT has these functions of its plugin registry. TensorRT 11 and RTX dropped functions that 10 has, so
// no one set of headers can call them all.
struct RegistryLayout {
    char const* library;
    int32_t registerCreator, getAllCreators, deregisterCreator;
};

constexpr RegistryLayout kLayouts[]
    = {{"libtensorrt_rtx.so.1", 8, 9, 11}, {"libnvinfer.so.11", 8, 9, 11}, {"libnvinfer.so.10", 12, 13, 15}};

template <class Function>
Function methodAt(void* object, int32_t slot)
{
    return reinterpret_cast<Function>((*static_cast<void***>(object))[slot]);
}

bool isNamed(IPluginCreatorInterface* creator, char const* name)
{
    if (strcmp(creator->getInterfaceInfo().kind, "PLUGIN CREATOR_V3ONE")) {
        return false;
    }
    auto* const own = static_cast<IPluginCreatorV3One*>(creator);
    return !strcmp(own->getPluginName(), name) && !strcmp(own->getPluginVersion(), kVersion)
        && !strcmp(own->getPluginNamespace(), kNamespace);
}

// `getCreator` would log an error where there is none.
bool isRegistered(void* registry, RegistryLayout const& layout, char const* name)
{
    using GetAll = IPluginCreatorInterface* const* (*)(void*, int32_t*);
    int32_t count = 0;
    IPluginCreatorInterface* const* const all = methodAt<GetAll>(registry, layout.getAllCreators)(registry, &count);
    return all && std::any_of(all, all + count, [name](auto* creator) { return isNamed(creator, name); });
}

// A creator that this library put into a registry on its own.
struct Registration {
    void* registry;
    RegistryLayout const* layout;
    IPluginCreatorInterface* creator;
};

void registerUnlessThere(
    void* registry, RegistryLayout const& layout, IPluginCreatorInterface* creator, std::vector<Registration>& made)
{
    using Register = bool (*)(void*, IPluginCreatorInterface*, char const*);
    if (!isRegistered(registry, layout, static_cast<IPluginCreatorV3One*>(creator)->getPluginName())
        && methodAt<Register>(registry, layout.registerCreator)(registry, creator, kNamespace)) {
        made.push_back({registry, &layout, creator});
    }
}

// ctypes.CDLL and `polygraphy --plugins` only open the library, so it finds the TensorRT that is already here.
// Wheels open theirs RTLD_LOCAL: it must be looked up by its name.
std::vector<Registration> registerAll()
{
    std::vector<Registration> made;
    for (RegistryLayout const& layout : kLayouts) {
        void* const library = dlopen(layout.library, RTLD_NOW | RTLD_NOLOAD);
        if (void* const symbol = library ? dlsym(library, "getPluginRegistry") : nullptr) {
            void* const registry = reinterpret_cast<void* (*)()>(symbol)();
            for (IPluginCreatorInterface* const creator : gCreators) {
                registerUnlessThere(registry, layout, creator, made);
            }
        }
    }
    return made;
}

std::vector<Registration> gRegistrations = registerAll();  // after the creators that it hands over

void takeBack()
{
    using Deregister = bool (*)(void*, IPluginCreatorInterface const*);
    for (Registration const& made : gRegistrations) {
        methodAt<Deregister>(made.registry, made.layout->deregisterCreator)(made.registry, made.creator);
    }
    gRegistrations.clear();
}

}  // namespace
}  // namespace fastadasp

#define FASTADASP_EXPORT extern "C" __attribute__((visibility("default")))

// TensorRT asks for them in order to register them itself, and refuses a library whose creators are there already.
FASTADASP_EXPORT nvinfer1::IPluginCreatorInterface* const* getCreators(int32_t& count)
{
    fastadasp::takeBack();
    count = static_cast<int32_t>(std::size(fastadasp::gCreators));
    return fastadasp::gCreators;
}

FASTADASP_EXPORT void setLoggerFinder(nvinfer1::ILoggerFinder* finder)
{
    fastadasp::gLoggerFinder = finder;
}
