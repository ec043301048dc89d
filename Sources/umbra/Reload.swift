import Admin
import Configuration
import CoreLoop
import Proxy

/// What became of a reload.
enum ReloadOutcome {
    /// The new configuration serves.
    case done(generation: Int, tookMs: UInt64)
    /// The file, or what it names, has errors; nothing has changed.
    case refused(file: String, [Diagnostic])
    /// What it asks for cannot be had, or its processes did not start; nothing has changed.
    case failed(String)

    /// The same for who asked by the admin listener.
    var answer: ControlAnswer {
        switch self {
        case .done(let generation, let tookMs):
            return .reloaded(generation: generation, tookMs: Int(tookMs))
        case .refused(let file, let findings): return .invalid(file: file, findings)
        case .failed(let reason): return .failure(503, "reload_failed", reason)
        }
    }
}

/// One reload under way: the file is read, then its processes are started.
struct Reload {
    /// How long the file may take to be read, with all look-ups: a pipe or a dead file server must
    /// not hold back every reload to come.
    static let readMsMax: UInt64 = 60_000
    /// How long new processes may take until they can serve.
    static let startMsMax: UInt64 = 10_000
    /// How long the old admin process may take to end; then it is killed.
    static let adminMsMax: UInt64 = 3_000

    enum Stage {
        case reading(ConfigurationLoad)
        case starting(Generation, sinceMs: UInt64)
    }

    var stage: Stage
    let startedMs: UInt64
    /// Told what became of it.
    let askers: [(ReloadOutcome) -> Void]
}
