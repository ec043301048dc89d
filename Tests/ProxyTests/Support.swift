import CoreLoop
import HTTP
import Mirror
import Testing
import Upstream

@testable import Proxy

/// The bytes of a text.
func bytes(_ text: String) -> [UInt8] { Array(text.utf8) }

/// A request's head, parsed; the bytes live as long as the value.
struct ParsedRequest {
    let source: [UInt8]
    let head = RequestHead(limits: HeadLimits())
    let headBytes: Int

    init(_ text: String) throws {
        source = Array(text.utf8)
        let outcome = source.withUnsafeBytes { [head] in head.parse($0) }
        guard case .complete(let count) = outcome else {
            Issue.record("no head: \(outcome) in \(text)")
            throw SystemError("parse", code: 0)
        }
        headBytes = count
    }
}

extension AddressText {
    init(_ text: String) {
        self.init()
        count = UInt8(text.utf8.count)
        withUnsafeMutableBytes(of: &bytes) { raw in
            for (index, byte) in text.utf8.enumerated() { raw[index] = byte }
        }
    }
}

extension GatewaySettings {
    /// One target and one route for everything.
    static func plain() -> GatewaySettings {
        var settings = GatewaySettings()
        settings.targets = [
            TargetSettings(
                id: "app", authority: "app.test:8080", host: "app.test", port: 8_080,
                addresses: [])
        ]
        settings.routes = [RouteSettings(name: "default", target: 0)]
        return settings
    }
}

/// Written text of a bounded writer.
func written(capacity: Int = 8_192, _ body: (inout HeadWriter) -> Void) -> String {
    withUnsafeTemporaryAllocation(byteCount: capacity, alignment: 16) { memory in
        var writer = HeadWriter(memory)
        body(&writer)
        #expect(!writer.overflowed)
        return String(decoding: writer.written, as: UTF8.self)
    }
}

enum WallClockNow {
    static var milliseconds: UInt64 { WallClock.milliseconds() }
}
