import CLinux
import CoreLoop
import EventLog
import Mirror
import Proxy
import Verdict

/// What the processes of a generation share with the event log's process, in one memory: a ring of
/// events for each worker, a ring of captures for each worker and each shadow process, one for what
/// an ending events process leaves its successor; and the door of that process. They outlive each
/// of them.
final class EventRings {
    /// The rings of one generation, as they are mapped.
    struct Mapped {
        var events: [RecordRing] = []
        var primaries: [RecordRing] = []
        var shadows: [RecordRing] = []
        var left: [RecordRing] = []

        static func += (all: inout Mapped, more: Mapped) {
            all.events += more.events
            all.primaries += more.primaries
            all.shadows += more.shadows
            all.left += more.left
        }
    }

    /// How many rings of which kind a memory holds: the supervisor writes it in front of them.
    private struct Shape {
        var workers: Int
        var shadows: Int

        static let bytes = 4_096

        var captures: Int { workers + shadows + 1 }
        var byteCount: Int {
            Self.bytes + workers * RecordRing.byteCount()
                + captures * RecordRing.byteCount(of: VerdictLimits.captureRingBytes)
        }

        func map(_ base: UnsafeMutableRawPointer) -> Mapped {
            var place = base + Self.bytes
            func take(_ count: Int, _ ringBytes: Int) -> [RecordRing] {
                (0..<count).map { _ in
                    var plan = MemoryPlan(base: place)
                    place += RecordRing.byteCount(of: ringBytes)
                    return RecordRing(plan: &plan, byteCount: ringBytes)!
                }
            }
            var mapped = Mapped()
            mapped.events = take(workers, EventLog.Limits.ringBytes)
            mapped.primaries = take(workers, VerdictLimits.captureRingBytes)
            mapped.shadows = take(shadows, VerdictLimits.captureRingBytes)
            mapped.left = take(1, VerdictLimits.captureRingBytes)
            return mapped
        }
    }

    /// Memories of former generations that an events process can be handed: of those that still
    /// run, the present one among them, and of those that have ended.
    static let formerMax = Supervisor.formerMax + 1 + unreadMax
    static let unreadMax = 4

    private let memory: SharedMemory
    private let door: Wake
    private let events: [RecordRing]

    /// Nil where no events are logged.
    init?(_ launch: Launch) throws(SystemError) {
        guard launch.settings.eventLog != nil else { return nil }
        let shape = Shape(
            workers: launch.workers, shadows: launch.shape.mirror.shadowProcesses)
        memory = try .create(name: "umbra-events", byteCount: shape.byteCount)
        memory.base.storeBytes(of: UInt64(shape.workers), as: UInt64.self)
        memory.base.storeBytes(of: UInt64(shape.shadows), toByteOffset: 8, as: UInt64.self)
        door = try .create()
        events = shape.map(memory.base).events
    }

    deinit { close(door.fd) }

    /// Whether workers have handed events over that no events process has taken: the next one has
    /// to, where the one in between ends before its turn came.
    var isUnread: Bool { !events.allSatisfy(\.isEmpty) }

    /// For workers and shadow processes.
    var forProducers: [Spawning.Handed] {
        [(memory.fd, RoleFD.eventRings), (door.fd, RoleFD.eventsWake)]
    }

    /// With the rings of former generations, whose doors nobody opens any more: their workers knock
    /// in vain, and are looked after each time that the writer's wait is over.
    func forWriter(besides former: [EventRings]) -> [Spawning.Handed] {
        let others = former.enumerated().map { place, rings in
            (fd: rings.memory.fd, as: RoleFD.formerRings + Int32(place))
        }
        return [(memory.fd, RoleFD.eventRings), (door.fd, RoleFD.wake)] + others
    }

    /// The rings behind a descriptor that this process was handed.
    static func map(_ fd: Int32) throws(SystemError) -> Mapped {
        var status = stat()
        try check(fstat(fd, &status), "fstat(rings)")
        let byteCount = Int(status.st_size)
        precondition(byteCount > Shape.bytes, "no rings")
        let base = try RoleCommand.mapForEver(fd, byteCount, writable: true)
        let shape = Shape(
            workers: Int(truncatingIfNeeded: base.load(as: UInt64.self)),
            shadows: Int(truncatingIfNeeded: base.load(fromByteOffset: 8, as: UInt64.self)))
        precondition(
            (1...byteCount).contains(shape.workers) && (0...byteCount).contains(shape.shadows)
                && shape.byteCount == byteCount, "a memory of rings that cannot be")
        return shape.map(base)
    }

    /// The rings of this generation and of those before it.
    static func mapAll() throws(SystemError) -> Mapped {
        var rings = try map(RoleFD.eventRings)
        for place in 0..<Int32(formerMax) {
            let fd = RoleFD.formerRings + place
            guard umbra_fcntl(fd, F_GETFD, 0) >= 0 else { break }
            rings += try map(fd)
        }
        return rings
    }
}
