import Testing

@testable import Load

@Suite struct TextTests {
    @Test func listeningSocketsFromTheKernelsTable() {
        let table = """
              sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
               0: 0100007F:520A 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0
               1: 0100007F:520A 0100007F:D431 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0
               2: 00000000:520A 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4713 1 0
               3: 0100007F:520B 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4714 1 0
            """
        #expect(Listeners.parse(table, port: 21_002) == [4711, 4713])
        #expect(Listeners.parse(table, port: 21_004) == [])
    }

    @Test func metricsText() {
        let metrics = Metrics(
            text: """
                # HELP umbra_requests_total Requests.
                # TYPE umbra_requests_total counter
                umbra_requests_total{worker="0",route="a",code="2xx"} 40
                umbra_requests_total{worker="1",route="a\\"b\\\\,}"} 2.5e1 1700000000
                umbra_up 1
                nonsense
                broken{x="1} 3
                """)
        #expect(metrics.samples.count == 3)
        #expect(metrics.sum("umbra_requests_total") == 65)
        #expect(metrics.sum("umbra_requests_total", ["worker": "1"]) == 25)
        #expect(metrics.select("umbra_requests_total")[1].labels["route"] == "a\"b\\,}")
        #expect(metrics.sum("umbra_up") == 1 && !metrics.has("umbra_down"))
    }

    @Test(
        arguments: [
            (0.0, 0, "0"), (1.005, 1, "1.0"), (-0.04, 1, "0.0"), (-1.26, 1, "-1.3"),
            (12.3456, 3, "12.346"), (2, 2, "2.00"),
            (99.999, 2, "100.00"), (.nan, 2, "-"),
        ] as [(Double, Int, String)])
    func fixedDecimals(value: Double, digits: Int, expected: String) {
        #expect(fixed(value, digits) == expected)
    }

    @Test func json() {
        let value = JSONText.object([
            ("a", .number(1.5)), ("b\"\n", .list([.integer(1), .null, .flag(true)])),
            ("c", .number(.infinity)),
            ("d", .object([])), ("e", .number(3)),
        ])
        #expect(
            value.written() == """
                {
                  "a": 1.5,
                  "b\\"\\n": [1, null, true],
                  "c": null,
                  "d": {},
                  "e": 3
                }
                """)
    }

    @Test func arguments() throws {
        var list = ArgumentList([
            "--rate=40", "--url", "a", "--url", "b", "--json", "word", "--what",
        ])
        #expect(try list.number("--rate", otherwise: 1) == 40)
        #expect(try list.texts("--url") == ["a", "b"])
        #expect(try list.integer("--seconds", otherwise: 5) == 5)
        #expect(list.flag("--json") && !list.flag("--json"))
        #expect(list.word() == "word")
        #expect(throws: ArgumentList.Fault.self) { try list.finish() }
        #expect(throws: ArgumentList.Fault.self) { _ = try list.text("--what") }
        var bad = ArgumentList(["--rate", "-3"])
        #expect(throws: ArgumentList.Fault.self) { _ = try bad.number("--rate", otherwise: 1) }
    }

    @Test func answersOfAdminListeners() throws {
        let plain = try Scrape.parse(Array("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi".utf8))
        #expect(plain.status == 200 && plain.body == Array("hi".utf8))
        let chunked = try Scrape.parse(
            Array(
                "HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n1\r\n!\r\n0\r\n\r\n"
                    .utf8))
        #expect(chunked.status == 503 && chunked.body == Array("hi!".utf8))
        for text in [
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhi", "nonsense", "HTTP/1.1 200 OK\r\n",
        ] {
            #expect(throws: Scrape.Fault.self) { try Scrape.parse(Array(text.utf8)) }
        }
    }
}
