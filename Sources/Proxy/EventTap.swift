public import CoreLoop
public import EventLog
import HTTP
import Mirror
import Policy
public import Providers
import Upstream
import Verdict

/// Hands the event log's process what its events are made of: whole events of mirrored requests,
/// and the skeletons of requests to LLM targets, mirrored or not, which the judge there fills. For
/// the access log's thread: a worker's loop does nothing for it.
public final class EventTap {
    /// What is the same in all events: the names that routes, targets and shadows have, and which
    /// configuration it is.
    public struct Names: Sendable {
        /// Of each route: its name, and its target's id.
        public var routes: [String]
        public var targets: [String]
        /// Of each shadow: its target's id.
        public var shadows: [String]
        /// What their answers are pinned to: of each route's target, and of each shadow.
        public var tags: [PinnedTags]
        public var shadowTags: [PinnedTags]
        public var configVersion: String
        /// What is said of requests to LLM targets: whether the primary's texts and, by shadow, the
        /// copies' are stored, and what is compared.
        public var logsPrimary: Bool
        public var logsShadow: [Bool]
        public var metrics: CompareMetrics
        /// The policies of the chain, by their names.
        public var policies: [String]
        /// `log_all_access`: requests that are neither mirrored nor for an LLM target have an event
        /// too.
        public var logsAll: Bool
        /// Whether clients have to bring a key.
        public var asksKeys: Bool

        /// The names of a configuration.
        public init(settings: GatewaySettings, configVersion: String) {
            routes = settings.routes.map(\.name)
            targets = settings.routes.map { settings.targets[$0.target].id }
            shadows = settings.shadows.map(\.targetID)
            tags = settings.routes.map { settings.targets[$0.target].tags }
            shadowTags = settings.shadows.map(\.tags)
            self.configVersion = configVersion
            logsPrimary = settings.logsPrimaryResponse
            logsShadow = settings.shadows.map(\.logsResponse)
            metrics = settings.compareMetrics
            policies = settings.policies.map(\.name)
            logsAll = settings.eventLog?.logsAllAccess ?? false
            asksKeys = settings.auth != nil
        }
    }

    let names: Names
    private let wake: Wake
    private var producer: RecordProducer
    private let random = SecureRandom()
    private let room: UnsafeMutableRawBufferPointer

    /// A tap into `ring`; `wake` is the door of the process that takes the events.
    public init(_ ring: RecordRing, wake: Wake, names: Names) {
        self.names = names
        self.wake = wake
        producer = RecordProducer(ring)
        // Names and ids only: no text of a request or an answer is in these events.
        room = .allocate(byteCount: 16 << 10, alignment: 8)
    }

    deinit { room.deallocate() }

    /// A skeleton of a request that has a pair, an event for each copy of any other. What does not
    /// fit in the ring is dropped and counted there.
    func take(_ record: LogRecord) {
        if record.pair != 0 {
            skeleton(record).bytes.withUnsafeBytes { _ = producer.push($0) }
            if producer.consumerNeedsWaking() { wake.signal() }
            return
        }
        // What was refused before it had a route was nobody's to answer.
        guard record.route != LogRecord.noRoute, record.copyCount > 0 || names.logsAll else {
            return
        }
        if record.copyCount == 0 { push(event(record, nil)) }
        for place in 0..<Int(record.copyCount) { push(event(record, record.copies[place])) }
        if producer.consumerNeedsWaking() { wake.signal() }
    }

    /// Whether it was refused here for want of a key.
    private func isUnauthorized(_ record: LogRecord) -> Bool {
        names.asksKeys && record.status == 401 && record.clientKey == 0
    }

    private func push(_ event: DecisionEvent) {
        if let bytes = event.encode(into: room) { _ = producer.push(bytes) }
    }

    private func event(_ record: LogRecord, _ copy: LogRecord.Copy?) -> DecisionEvent {
        let route = Int(record.route)
        var primary = DecisionEvent.Side(
            provider: names.targets[route], model: nil,
            latencyUs: Int(clamping: record.latencyNs / 1_000),
            status: record.isWhole ? Self.status(Int(record.status)) : .reset)
        primary.httpStatus = Int(record.status)
        primary.requestBytes = Int(clamping: record.requestBytes)
        primary.answerBytes = Int(clamping: record.answerBytes)
        primary.pin(names.tags[route])
        let isRefused = record.status >= 500 || !record.isWhole
        var event = DecisionEvent(
            id: UUIDv7.make(milliseconds: record.wallMs, random.next(), random.next()),
            timestampMs: record.wallMs, verdict: .allow,
            reasonCode: isRefused ? "upstream_error" : "ok",
            requestID: record.requestID.string, configVersion: names.configVersion,
            primary: primary)
        event.route = names.routes[route]
        if isUnauthorized(record) { (event.verdict, event.reasonCode) = (.block, "unauthorized") }
        guard let copy else { return event }
        let outcome = copy.outcome
        guard outcome.wasSent != 0 else {
            event.shadowProvider = names.shadows[Int(copy.shadow)]
            event.dropReason = DropReason(rawValue: Int(outcome.code))?.label ?? "invalid_copy"
            return event
        }
        event.shadowID = Self.text(outcome.shadowID)
        var shadow = DecisionEvent.Side(
            provider: names.shadows[Int(copy.shadow)], model: nil,
            latencyUs: Int(outcome.latencyUs),
            status: Self.status(CopyResult(rawValue: Int(outcome.code)), Int(outcome.status)))
        shadow.httpStatus = Int(outcome.status)
        shadow.requestBytes = primary.requestBytes
        shadow.pin(names.shadowTags[Int(copy.shadow)])
        event.shadow = shadow
        event.comparison = DecisionEvent.Comparison()
        return event
    }

    private func skeleton(_ record: LogRecord) -> Skeleton {
        let route = Int(record.route)
        var bones = Skeleton(pair: record.pair, timestampMs: record.wallMs)
        bones.requestID = record.requestID.string
        bones.route = names.routes[route]
        bones.provider = names.targets[route]
        bones.configVersion = names.configVersion
        bones.method = record.method.string
        bones.target = record.target.string
        if record.status >= 500 || !record.isWhole { bones.reasonCode = "upstream_error" }
        bones.latencyUs = Int(clamping: record.latencyNs / 1_000)
        bones.status = record.isWhole ? Self.status(Int(record.status)) : .reset
        bones.httpStatus = Int(record.status)
        bones.requestBytes = Int(clamping: record.requestBytes)
        bones.answerBytes = Int(clamping: record.answerBytes)
        bones.tags = names.tags[route]
        bones.logsResponse = names.logsPrimary
        bones.metrics = names.metrics
        if isUnauthorized(record) { (bones.verdict, bones.reasonCode) = (.block, "unauthorized") }
        note(record.policy, in: &bones)
        for place in 0..<Int(record.copyCount) {
            let copy = record.copies[place]
            let outcome = copy.outcome
            var part = Skeleton.Copy(
                shadow: UInt16(copy.shadow), provider: names.shadows[Int(copy.shadow)])
            part.tags = names.shadowTags[Int(copy.shadow)]
            part.logsResponse = names.logsShadow[Int(copy.shadow)]
            if outcome.wasSent == 0 {
                part.dropReason =
                    DropReason(rawValue: Int(outcome.code))?.label ?? "invalid_copy"
            } else {
                part.shadowID = Self.text(outcome.shadowID)
                part.latencyUs = Int(outcome.latencyUs)
                part.httpStatus = Int(outcome.status)
                part.status = Self.status(
                    CopyResult(rawValue: Int(outcome.code)), Int(outcome.status))
            }
            bones.copies.append(part)
        }
        return bones
    }

    /// What policies said of the request.
    private func note(_ report: PolicyReport, in bones: inout Skeleton) {
        guard report.verdict != .allow else { return }
        bones.verdict =
            switch report.verdict {
            case .allow: .allow
            case .redact: .redact
            case .escalate: .escalate
            case .block: .block
            }
        bones.reasonCode = report.reason.map { "\($0)" } ?? bones.reasonCode
        bones.policies = names.policies.indices.filter { report.bits >> UInt32($0) & 1 == 1 }.map {
            names.policies[$0]
        }
        // The one that blocks is the last that looked.
        bones.policy = report.verdict == .block ? bones.policies.last : bones.policies.first
    }

    private static func status(_ code: Int) -> DecisionEvent.SideStatus {
        switch code {
        case 429: .rateLimited
        case 400..<500: .error4xx
        case 500...: .error5xx
        case 0: .reset
        default: .success
        }
    }

    private static func status(_ result: CopyResult?, _ code: Int) -> DecisionEvent.SideStatus {
        switch result {
        case .timeout: .timeout
        case .cancelled: .cancelled
        // A reset, or an answer that was given up: whatever its status promised.
        case .error where code < 500: .reset
        default: status(code)
        }
    }

    private static func text(_ id: (UInt64, UInt64)) -> String {
        var bytes = InlineArray<36, UInt8>(repeating: 0)
        return withUnsafeMutableBytes(of: &bytes) { memory in
            var writer = HeadWriter(memory)
            UUIDv7.append(id.0, id.1, to: &writer)
            return String(decoding: memory, as: UTF8.self)
        }
    }
}

extension LogRecord.Text {
    /// The text; bytes that are no UTF-8 are replaced.
    var string: String {
        withUnsafeBytes(of: bytes) { String(decoding: $0.prefix(Int(count)), as: UTF8.self) }
    }
}
