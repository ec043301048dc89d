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

// MARK: How the supervisor does it

extension Supervisor {
    /// Reads the configuration again and has it served, if it can be. Whoever asks while one is
    /// under way gets the next: the file may have changed since. `asker` is told what became of it.
    func beginReload(_ asker: @escaping (ReloadOutcome) -> Void) {
        guard !isStopping else { return asker(.failed("the gateway is stopping")) }
        askers.append(asker)
        bell.signal()
    }

    /// A reload is under way, or waits to begin.
    var isReloading: Bool { reload != nil || !askers.isEmpty || adminWaitsSince != nil }

    func moveReload(startedMs: UInt64) {
        if reload == nil, !askers.isEmpty, !isStopping, adminWaitsSince == nil,
            former.count < Self.formerMax
        {
            readAgain()
        }
        if reload == nil, !askers.isEmpty, former.count >= Self.formerMax, !saidWaiting {
            saidWaiting = true
            Console.log(
                .warn,
                "A reload waits: \(former.count) configurations still finish requests, the oldest at "
                    + "most for its drain_timeout", isLimited: false)
        }
        switch reload?.stage {
        case .reading(let load):
            if let outcome = load.outcome {
                takeConfiguration(outcome)
            } else if Instant.now().milliseconds > (reload?.startedMs ?? 0) + Reload.readMsMax {
                cancelReload("\(source.file) could not be read within \(Reload.readMsMax) ms")
            }
        case .starting(let generation, let since):
            if let failure = generation.failure {
                cancelReload(failure)
            } else if generation.isReady {
                change(to: generation, startedMs: startedMs)
            } else if Instant.now().milliseconds > since + Reload.startMsMax {
                cancelReload("its processes did not get ready within \(Reload.startMsMax) ms")
            }
        case nil: break
        }
    }

    private func readAgain() {
        saidWaiting = false
        Console.log(.info, "Reloading \(source.file)", isLimited: false)
        do throws(SystemError) {
            reload = Reload(
                stage: .reading(
                    try ConfigurationLoad(source, known: current.knownAddresses, bell: bell)),
                startedMs: Instant.now().milliseconds, askers: askers)
            askers = []
        } catch {
            end(.failed("\(error)"), askers, .failed)
            askers = []
        }
    }

    private func takeConfiguration(_ outcome: ConfigurationSource.Outcome) {
        switch outcome {
        case .refused(let findings):
            say(findings, .error)
            Console.log(
                .error, "Reload refused: \(source.file) is not valid; nothing has changed",
                isLimited: false)
            endReload(.refused(file: source.file, findings), .refused)
        case .unusable(let reason, _): cancelReload(reason)
        case .read(let launch, let findings):
            say(findings, .warn)
            do throws(StartFault) {
                lastNumber += 1
                unreadRings.removeAll { !$0.isUnread }
                let generation = try Self.generation(
                    lastNumber, launch, sockets, caps, tickets,
                    formerRings: generations.compactMap(\.eventRings) + unreadRings)
                mirrorOrders.apply(to: generation.board.mirror, launch.settings)
                generation.inheritVerdicts(from: current)
                reload?.stage = .starting(generation, sinceMs: Instant.now().milliseconds)
            } catch {
                cancelReload("\(error)")
            }
        }
    }

    private func say(_ findings: [Diagnostic], _ level: LogLevel) {
        for finding in findings {
            Console.log(level, finding.text(file: source.file), isLimited: false)
        }
    }

    private func change(to next: Generation, startedMs: UInt64) {
        let old = current
        let reloads = old.board.reloads
        for cell in [ReloadCell.done, .refused, .failed] {
            next.board.reloads[cell].set(reloads.value(cell))
        }
        GatewayLog.configure(next.launch.settings.log)
        show(next, startedMs: startedMs)
        caps.adopt(next.caps, now: .now())
        counters.follow(next, after: old)
        next.serve(after: old)
        sockets.keepOnly(next.plan)
        current = next
        former.append(old)
        adminWaitsSince = Instant.now().milliseconds
        let tookMs = Instant.now().milliseconds - (reload?.startedMs ?? 0)
        Console.log(
            .info,
            "Reloaded \(source.file) in \(tookMs) ms: configuration \(next.number) serves on "
                + next.plan.text, isLimited: false)
        endReload(.done(generation: next.number, tookMs: tookMs), .done)
        old.retire(eventsGoOn: next.eventRings != nil)
    }

    /// The reload that is under way comes to nothing, for this reason.
    func cancelReload(_ reason: String) {
        guard let reload else {
            end(.failed(reason), askers, .failed)
            askers = []
            return
        }
        if case .starting(let generation, _) = reload.stage {
            generation.discard()
            former.append(generation)
        }
        Console.log(
            .error, "Reload failed: \(reason); nothing has changed", isLimited: false)
        sockets.keepOnly(current.plan)
        endReload(.failed(reason), .failed)
    }

    private func endReload(_ outcome: ReloadOutcome, _ cell: ReloadCell) {
        end(outcome, reload?.askers ?? [], cell)
        reload = nil
    }

    private func end(
        _ outcome: ReloadOutcome, _ askers: [(ReloadOutcome) -> Void], _ cell: ReloadCell
    ) {
        guard !askers.isEmpty else { return }
        current.board.reloads.add(cell)
        for asker in askers { asker(outcome) }
    }

    /// The present events process has a generation's rings, unless it ends before it comes to them.
    private func keepUnread(_ generation: Generation) {
        unreadRings.removeAll { !$0.isUnread }
        guard let rings = generation.eventRings, rings.isUnread else { return }
        unreadRings.append(rings)
        if unreadRings.count > EventRings.unreadMax { unreadRings.removeFirst() }
    }

    /// Moves the generations on that serve no more, and has the present one's admin process take
    /// over.
    func endFormer() {
        let now = Instant.now()
        for generation in former {
            generation.enforceEnd()
            guard generation.isOver else { continue }
            counters.ended(generation)
            former.removeAll { $0 === generation }
            keepUnread(generation)
        }
        current.board.reloads[.draining].set(UInt64(former.count))
        if let since = adminWaitsSince {
            guard former.allSatisfy(\.hasNoAdmin) else {
                if now.milliseconds > since + Reload.adminMsMax {
                    for generation in former { generation.killAdmin() }
                }
                return
            }
            adminWaitsSince = nil
            // What the old one told last must not be more than what the new one tells first.
            counters.write()
            current.serveAdmin()
        }
        guard !former.isEmpty, now >= nextCount else { return }
        counters.write()
        let tookMs = Int(Instant.now().nanoseconds(since: now) / 1_000_000)
        nextCount = Instant.now().adding(ms: max(100, 20 * tookMs))
    }
}
