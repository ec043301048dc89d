public import CoreLoop
public import EventLog
import HTTP
public import Policy
import Providers

/// Makes the events of requests to LLM targets: joins what the workers' logs say (`Skeleton`) with
/// what was captured of both sides (`CaptureRecord`), reads the answers, and compares them. For the
/// event log's process; not for use by two threads.
///
/// A worker pushes its capture before it lets go of the log record, and a shadow process before the
/// copy's return: once a skeleton is there, so are its captures, unless they were dropped. What
/// waits for its skeleton is bounded (`VerdictLimits.waiting…`): the oldest goes.
public final class Judge: EventSource {
    private let rings: [CaptureRing]
    private let primaries: WaitingCaptures
    private let copies: WaitingCaptures
    private let left: RecordRing?
    private let embedder: Embedder
    private let policies: PolicyChain?
    private let counters: CounterRow<LogCounter>
    private let random = SecureRandom()
    private let room: UnsafeMutableRawBufferPointer

    /// - Parameters:
    ///   - primaries: the workers' rings of captures; `shadows`: the shadow processes'.
    ///   - left: the rings in which a former judge has left what waits; the first is this one's own
    /// to leave something in.
    ///   - policies: what answers are held against, and what stored texts must not show.
    ///   - counters: where lost captures are counted.
    public init(
        primaries: [RecordRing], shadows: [RecordRing], left: [RecordRing],
        embedder: Embedder = .lexical, policies: PolicyChain? = nil,
        counters: CounterRow<LogCounter>
    ) {
        self.primaries = WaitingCaptures()
        copies = WaitingCaptures()
        self.embedder = embedder
        self.policies = policies
        self.counters = counters
        self.left = left.first
        rings =
            primaries.map { CaptureRing($0, .primary) } + shadows.map { CaptureRing($0, .shadow) }
        room = .allocate(byteCount: EventLog.Limits.recordBytesMax, alignment: 8)
        for ring in left {
            let former = CaptureRing(ring, nil)
            while take(former) {}
        }
    }

    deinit { room.deallocate() }

    /// Skeletons are.
    public func isRaw(_ record: UnsafeRawBufferPointer) -> Bool { Skeleton.isOne(record) }

    /// Makes room in rings of captures that are half full, and counts what they have lost. The rest
    /// stays there until it is asked for: it outlives this process.
    public func gather() {
        for ring in rings {
            let lost = ring.consumer.takeDropped()
            if lost > 0 { counters.add(.capturesDropped, lost) }
            while ring.consumer.isHalfFull, take(ring) {}
        }
    }

    /// Takes captures off the rings until that of `key` is there; all of them where it is not.
    private func find(_ key: WaitingCaptures.Key, _ kind: CaptureRecord.Kind) -> [UInt8]? {
        let table = kind == .primary ? primaries : copies
        if let there = table.take(key) { return there }
        let own = rings.filter { $0.kind == kind }
        guard !own.isEmpty else { return nil }
        // Most likely in its own worker's.
        let first = kind == .primary ? Int(key.pair >> 48) % own.count : 0
        for step in 0..<own.count {
            let ring = own[(first + step) % own.count]
            // No more than a ringful: a producer that fills it as fast holds nobody up.
            for _ in 0..<VerdictLimits.captureRingBytes / CaptureRecord.headBytes {
                guard take(ring) else { break }
                if let there = table.take(key) { return there }
            }
        }
        return nil
    }

    /// Takes one capture off a ring, to wait for its skeleton. False where there is none.
    private func take(_ ring: CaptureRing) -> Bool {
        switch ring.consumer.peek() {
        case .empty: return false
        case .invalid:
            counters.add(.capturesDropped)
            return false
        case .record(let bytes):
            var lost = 0
            if let record = CaptureRecord(bytes), ring.kind == nil || ring.kind == record.head.kind
            {
                let table = record.head.kind == .primary ? primaries : copies
                lost = table.put(.init(record.head.pair, record.head.shadow), Array(bytes))
            } else {
                lost = 1
            }
            if lost > 0 { counters.add(.capturesDropped, UInt64(lost)) }
            ring.consumer.consume(bytes.count)
            return true
        }
    }

    /// Leaves what waits here to the next judge, who finds what is in the rings by itself.
    public func close() {
        guard let left else { return }
        var producer = RecordProducer(left)
        for table in [primaries, copies] {
            while let bytes = table.takeOldest() {
                bytes.withUnsafeBytes { _ = producer.push($0) }
            }
        }
    }

    /// An event for each copy of the request that `record` is the skeleton of, or the one that it
    /// has without copies.
    public func makeEvents(
        of record: UnsafeRawBufferPointer, _ event: (UnsafeRawBufferPointer) -> Void
    ) {
        guard let skeleton = Skeleton(record) else {
            counters.add(.refused)
            return
        }
        let call = Self.call(skeleton)
        let primary = reading(.primary, skeleton, shadow: 0)
        if skeleton.copies.isEmpty {
            write(self.event(skeleton, primary, nil, call), event)
        }
        for copy in skeleton.copies {
            let shadow = reading(.shadow, skeleton, shadow: copy.shadow)
            var made = self.event(skeleton, primary, copy, call)
            if copy.dropReason == nil { add(copy, shadow, primary, skeleton, call, to: &made) }
            write(made, event)
        }
    }

    private static func call(_ skeleton: Skeleton) -> Inference? {
        guard skeleton.method == "POST" else { return nil }
        var target = skeleton.target
        return target.withUTF8 { Inference(path: UnsafeRawBufferPointer($0)) }
    }

    private func reading(
        _ kind: CaptureRecord.Kind, _ skeleton: Skeleton, shadow: UInt16
    ) -> SideReading? {
        find(.init(skeleton.pair, shadow), kind)?.withUnsafeBytes { raw in
            CaptureRecord(raw).map {
                SideReading(
                    $0, method: skeleton.method, target: skeleton.target,
                    hashes: kind == .primary, wallMs: skeleton.timestampMs)
            }
        }
    }

    private func write(_ event: DecisionEvent, _ take: (UnsafeRawBufferPointer) -> Void) {
        if let bytes = event.encode(into: room) {
            take(bytes)
        } else {
            counters.add(.refused)
        }
    }

    // MARK: Events

    /// What is the same in all events of a request, and why `copy` was not sent.
    private func event(
        _ skeleton: Skeleton, _ reading: SideReading?, _ copy: Skeleton.Copy?,
        _ call: Inference?
    ) -> DecisionEvent {
        var primary = DecisionEvent.Side(
            provider: skeleton.provider, model: nil, latencyUs: skeleton.latencyUs,
            status: skeleton.status)
        primary.httpStatus = skeleton.httpStatus
        primary.requestBytes = skeleton.requestBytes
        primary.answerBytes = skeleton.answerBytes
        fill(&primary, reading, call)
        primary.pin(skeleton.tags)
        if skeleton.logsResponse { primary.response = reading?.comparedText.map(stored) }
        var event = DecisionEvent(
            id: UUIDv7.make(milliseconds: skeleton.timestampMs, random.next(), random.next()),
            timestampMs: skeleton.timestampMs, verdict: skeleton.verdict,
            reasonCode: skeleton.reasonCode, requestID: skeleton.requestID,
            configVersion: skeleton.configVersion, primary: primary)
        event.policy = skeleton.policy
        event.policies = skeleton.policies
        if skeleton.logsResponse {
            event.prompt = reading?.promptText(storable).map(stored)
        }
        event.model = primary.model
        event.route = skeleton.route
        event.requestHash = reading?.requestHash
        event.primaryTranslationLoss = reading?.losses.map(stored) ?? []
        if let text = reading?.comparedText { flag(text, in: &event) }
        if let copy, let reason = copy.dropReason {
            event.shadowProvider = copy.provider
            event.dropReason = reason
        }
        return event
    }

    /// Puts what a reading says into a side of an event. Whoever asks chooses the model's name, and
    /// some providers give it back.
    private func fill(_ side: inout DecisionEvent.Side, _ reading: SideReading?, _ call: Inference?)
    {
        reading?.fill(&side, isInference: call != nil)
        side.model = side.model.map(stored)
        side.modelRevision = side.modelRevision.map(stored)
        side.toolCalls = side.toolCalls.map(stored)
    }

    /// A request as it may be stored; nil where it may not.
    private func storable(_ request: JSONDocument) -> JSONDocument? {
        policies == nil ? request : policies?.redacted(request)
    }

    /// A text as it may be stored.
    private func stored(_ text: String) -> String { policies?.redacted(text) ?? text }

    /// Marks an event whose answer, which the user has, holds what a filter looks for.
    private func flag(_ text: String, in event: inout DecisionEvent) {
        guard let policies else { return }
        var report = PolicyReport()
        var text = text
        text.withUTF8 { policies.inspectAnswer(UnsafeRawBufferPointer($0), &report) }
        guard report.verdict != .allow else { return }
        let names = policies.names(report)
        for name in names where !event.policies.contains(name) { event.policies.append(name) }
        guard event.verdict == .allow || event.verdict == .redact else { return }
        event.verdict = .escalate
        event.reasonCode = report.isUndecided ? "not_decided" : "answer_flagged"
        event.policy = names.first
    }

    /// The copy's side, and how the two compare.
    private func add(
        _ copy: Skeleton.Copy, _ reading: SideReading?, _ primary: SideReading?,
        _ skeleton: Skeleton, _ call: Inference?, to event: inout DecisionEvent
    ) {
        var shadow = DecisionEvent.Side(
            provider: copy.provider, model: nil, latencyUs: copy.latencyUs, status: copy.status)
        shadow.httpStatus = copy.httpStatus
        shadow.answerBytes = reading?.answerBytes
        fill(&shadow, reading, call)
        shadow.pin(copy.tags)
        if copy.logsResponse { shadow.response = reading?.comparedText.map(stored) }
        event.shadowID = copy.shadowID
        event.translationLoss = reading?.losses.map(stored) ?? []
        var comparison = DecisionEvent.Comparison()
        comparison.latency = skeleton.metrics.contains(.latency)
        comparison.tokens = skeleton.metrics.contains(.tokenCount)
        // Two vectors of numbers are none of the lexical embedder's business.
        if skeleton.metrics.contains(.contentSimilarity), call != nil, call != .embeddings,
            event.primary.status == .success, shadow.status == .success,
            let one = primary?.comparedText, let other = reading?.comparedText
        {
            comparison.contentSimilarity = embedder.similarity(one, other)
            comparison.embedder = embedder.id
        }
        event.shadow = shadow
        event.comparison = comparison
    }
}

/// A ring of captures, and the kind that alone may lie in it.
private final class CaptureRing {
    var consumer: RecordConsumer
    let kind: CaptureRecord.Kind?

    init(_ ring: RecordRing, _ kind: CaptureRecord.Kind?) {
        consumer = RecordConsumer(ring)
        self.kind = kind
    }
}

/// Captures that wait for their skeletons, in the order in which they came; bounded.
final class WaitingCaptures {
    struct Key: Hashable {
        let pair: UInt64
        let shadow: UInt16

        init(_ pair: UInt64, _ shadow: UInt16) {
            self.pair = pair
            self.shadow = shadow
        }
    }

    private var records: [Key: (number: UInt64, bytes: [UInt8])] = [:]
    /// Keys in the order of arrival, by number; those that were taken are still among them.
    private var order: [(number: UInt64, key: Key)] = []
    private var first = 0
    private var nextNumber: UInt64 = 0
    private(set) var byteCount = 0

    var count: Int { records.count }

    /// Keeps a record. Returns how many others were lost for it: one of the same key, and the
    /// oldest beyond the bounds.
    func put(_ key: Key, _ bytes: [UInt8]) -> Int {
        var lost = 0
        if let former = records[key] {
            byteCount -= former.bytes.count
            lost += 1
        }
        records[key] = (nextNumber, bytes)
        order.append((nextNumber, key))
        nextNumber += 1
        byteCount += bytes.count
        while records.count > VerdictLimits.waitingMax
            || byteCount > VerdictLimits.waitingBytesMax
        {
            guard takeOldest() != nil else { break }
            lost += 1
        }
        return lost
    }

    /// Takes one record out.
    func take(_ key: Key) -> [UInt8]? {
        guard let record = records.removeValue(forKey: key) else { return nil }
        byteCount -= record.bytes.count
        tidy()
        return record.bytes
    }

    /// Takes the oldest out; nil where there is none.
    func takeOldest() -> [UInt8]? {
        while first < order.count {
            let (number, key) = order[first]
            first += 1
            // Taken meanwhile, or written over by a later one.
            guard let record = records[key], record.number == number else { continue }
            return take(key)
        }
        return nil
    }

    private func tidy() {
        if records.isEmpty {
            order.removeAll(keepingCapacity: true)
            first = 0
        } else if order.count > 2 * VerdictLimits.waitingMax + 2 * records.count {
            order = order[first...].filter { records[$0.key]?.number == $0.number }
            first = 0
        }
    }
}
