import HTTP
import Testing

@testable import Proxy

@Suite struct AnswerForwardingTests {
    struct Row: Sendable, CustomTestStringConvertible {
        let name: String
        let head: String
        var form = Forwarding.AnswerForm()
        let result: String
        var testDescription: String { name }

        init(
            _ name: String, _ head: String,
            form change: (inout Forwarding.AnswerForm) -> Void = { _ in },
            _ result: String
        ) {
            (self.name, self.head, self.result) = (name, head, result)
            form.wallMs = 784_111_777_000
            change(&form)
        }
    }

    static let date = "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
    static let via = "Via: 1.1 umbra\r\n\r\n"

    @Test(arguments: [
        Row(
            "Date is added where missing",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\(date)\(via)"),
        Row(
            "Date stays",
            "HTTP/1.1 200 Fine, thank you\r\nDate: Mon, 07 Nov 1994 08:49:37 GMT\r\n\r\n",
            "HTTP/1.1 200 Fine, thank you\r\nDate: Mon, 07 Nov 1994 08:49:37 GMT\r\n\(via)"),
        Row(
            "hop-by-hop fields",
            "HTTP/1.1 404 No\r\nKeep-Alive: timeout=5\r\nConnection: X-A\r\nX-A: 1\r\n"
                + "Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nProxy-Authenticate: Basic\r\n\r\n",
            "HTTP/1.1 404 No\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\(date)\(via)"),
        Row(
            "chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n",
            form: { $0.isChunked = true },
            "HTTP/1.1 200 OK\r\nTrailer: X\r\nTransfer-Encoding: chunked\r\n\(date)\(via)"),
        Row(
            "closes", "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n",
            form: { $0.closes = true },
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\(date)Connection: close\r\n\(via)"),
        Row(
            "HTTP/1.0 is kept", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            form: { $0.keepsHTTP10 = true },
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\(date)Connection: keep-alive\r\n\(via)"),
        Row(
            "no length in 204", "HTTP/1.1 204 No\r\nContent-Length: 0\r\nX-A: 1\r\n\r\n",
            "HTTP/1.1 204 No\r\nX-A: 1\r\n\(date)\(via)"),
        Row(
            "interim", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
            form: { $0.isInterim = true },
            "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\(via)"),
        Row(
            "an empty reason", "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200\r\nContent-Length: 0\r\n\(date)\(via)"),
        Row(
            "HTTP/1.0 behind", "HTTP/1.0 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\(date)Via: 1.0 umbra\r\n\r\n"),
        Row(
            "101",
            "HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
                + "Sec-WebSocket-Accept: x\r\n\r\n",
            form: { $0.isUpgrade = true },
            "HTTP/1.1 101 Switching\r\nSec-WebSocket-Accept: x\r\nConnection: upgrade\r\n"
                + "Upgrade: websocket\r\n\(via)"),
    ])
    func heads(_ row: Row) {
        let forwarding = Forwarding(.plain(), seed: 1)
        let head = ResponseHead(limits: HeadLimits())
        let source = Array(row.head.utf8)
        let text = source.withUnsafeBytes { bytes in
            guard case .complete(let count) = head.parse(bytes, toHead: false) else { return "" }
            return written {
                forwarding.writeAnswer(
                    head, bytes.baseAddress!, headBytes: count, row.form, into: &$0)
            }
        }
        #expect(text == row.result)
    }

    @Test func trailersPassButForHopByHopFields() throws {
        let forwarding = Forwarding(.plain(), seed: 1)
        let section = Array("X-Sum: 1\r\nConnection: x\r\nX-More:2\r\n".utf8)
        let fields = FieldList(capacity: 8)
        let text = section.withUnsafeBytes { bytes in
            let outcome = TrailerParser.parse(bytes, into: fields, limits: HeadLimits())
            guard case .complete = outcome else { return "\(outcome)" }
            return written { forwarding.writeTrailers(fields, bytes.baseAddress!, into: &$0) }
        }
        #expect(text == "X-Sum: 1\r\nX-More:2\r\n")
    }

    @Test func theDateMovesOn() {
        let forwarding = Forwarding(.plain(), seed: 1)
        let first = written { forwarding.writeDate(784_111_777_999, &$0) }
        let second = written { forwarding.writeDate(784_111_778_000, &$0) }
        #expect(first == Self.date)
        #expect(second == "Date: Sun, 06 Nov 1994 08:49:38 GMT\r\n")
    }
}
