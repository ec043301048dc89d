import CLinux
import CoreLoop
import Mirror
import Proxy

/// One worker's blocks and link: new for each life of the worker, so that nothing of a former
/// life is written over while a shadow process may still read it.
final class Region {
    let blocks: SharedMemory
    let blocksReadOnly: Int32
    private let linkMemory: SharedMemory?
    /// -1 without shadows.
    let linkFD: Int32
    let link: MirrorLink?

    init(_ settings: GatewaySettings, worker: Int) throws(SystemError) {
        let runtime = settings.runtime
        blocks = try .create(
            name: "umbra-blocks-\(worker)",
            byteCount: runtime.blocksPerWorker * runtime.blockBytes)
        blocksReadOnly = try blocks.openReadOnly()
        if settings.shadows.isEmpty {
            linkMemory = nil
            linkFD = -1
            link = nil
        } else {
            let memory = try SharedMemory.create(
                name: "umbra-link-\(worker)",
                byteCount: MirrorLink.byteCount(depth: runtime.ringDepth))
            var plan = MemoryPlan(base: memory.base)
            link = MirrorLink(plan: &plan, depth: runtime.ringDepth)
            linkFD = memory.fd
            linkMemory = consume memory
        }
    }

    deinit { close(blocksReadOnly) }
}
