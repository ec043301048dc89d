import Foundation
import HTTP
import Testing

@testable import Proxy

@Suite struct GatewayAnswerTests {
    static let faults: [GatewayFault] =
        [
            .headTimeout, .bodyTimeout, .lengthRequired, .bodyTooLarge, .connectRefused,
            .traceRefused, .noMemory, .tooManyConnections, .noUpstream, .upstreamRefused,
            .upstreamReset, .upstreamMalformed, .upstreamConnectTimeout, .upstreamTimeout,
            .unauthorized, .bodyEncoded,
        ] + HeadFault.allCases.map { .refused($0) }

    private static func answer(_ fault: GatewayFault, isHead: Bool, closes: Bool) -> String {
        let forwarding = Forwarding(.plain(), seed: 1)
        return written(capacity: GatewayAnswer.bytesMax) {
            GatewayAnswer.write(
                fault, isHead: isHead, closes: closes, wallMs: 784_111_777_000, forwarding, &$0)
        }
    }

    @Test(arguments: faults, [true, false])
    func theLengthIsTheBodys(_ fault: GatewayFault, _ closes: Bool) throws {
        let text = Self.answer(fault, isHead: false, closes: closes)
        let end = try #require(text.range(of: "\r\n\r\n"))
        let head = text[..<end.lowerBound].components(separatedBy: "\r\n")
        let body = text[end.upperBound...]
        #expect(head[0].hasPrefix("HTTP/1.1 \(fault.status) "))
        #expect(head.contains("Content-Length: \(body.utf8.count)"))
        #expect(head.contains("Date: Sun, 06 Nov 1994 08:49:37 GMT"))
        #expect(head.contains("Connection: close") == closes)
        #expect(head.contains("WWW-Authenticate: Bearer") == (fault.status == 401))
        #expect(head.contains("Retry-After: 1") == (fault.status == 503))
        #expect(head.contains { $0.hasPrefix("Allow: ") } == (fault.status == 405))
        let json = try JSONSerialization.jsonObject(with: Data(body.utf8)) as? [String: Any]
        let error = try #require(json?["error"] as? [String: String])
        #expect(Set(error.keys) == ["type", "message", "code"])
        #expect(error.values.allSatisfy { !$0.isEmpty })
        #expect(error["message"]?.hasSuffix(".") == true)
    }

    @Test(arguments: faults)
    func clientsOfMessagesGetThemInTheirForm(_ fault: GatewayFault) throws {
        let forwarding = Forwarding(.plain(), seed: 1)
        let text = written(capacity: GatewayAnswer.bytesMax) {
            GatewayAnswer.write(
                fault, isHead: false, closes: false, speaksMessages: true,
                wallMs: 784_111_777_000, forwarding, &$0)
        }
        let end = try #require(text.range(of: "\r\n\r\n"))
        let body = text[end.upperBound...]
        #expect(text.contains("\r\nContent-Length: \(body.utf8.count)\r\n"))
        let json = try JSONSerialization.jsonObject(with: Data(body.utf8)) as? [String: Any]
        #expect(json?["type"] as? String == "error")
        let error = try #require(json?["error"] as? [String: String])
        #expect(error["type"]?.hasSuffix("_error") == true || error["type"] == "request_too_large")
        #expect(error["code"] == "\(fault.code)" && error["message"] == "\(fault.text)")
    }

    @Test(arguments: faults)
    func headHasTheSameHeadAndNoBody(_ fault: GatewayFault) throws {
        let whole = Self.answer(fault, isHead: false, closes: false)
        let head = Self.answer(fault, isHead: true, closes: false)
        #expect(head.hasSuffix("\r\n\r\n"))
        #expect(whole.hasPrefix(head))
        #expect(whole.utf8.count > head.utf8.count)
    }
}
