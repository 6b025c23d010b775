package main

import (
	"bytes"
	"strings"
	"testing"
)

func event(action, test string) string {
	return `{"Action":"` + action + `","Package":"p","Test":"` + test + `"}` + "\n"
}

func TestReportCountsOnlyPassedRows(t *testing.T) {
	input := "not json\n" +
		event("pass", "TestF1_Whole") +
		event("skip", "TestF2_Skipped") +
		event("fail", "TestF3_Failed") +
		event("pass", "TestF4_OnlySkippedSubtests") + event("skip", "TestF4_OnlySkippedSubtests/file") +
		event("pass", "TestOther/F5_sub") + event("pass", "TestOther") +
		event("pass", "TestF6_F7_Two") +
		event("pass", "TestFault8_Long") +
		event("pass", "TestB9_OtherCatalogue") +
		event("pass", "TestF10_Mixed") + event("fail", "TestF10_Again")
	var out bytes.Buffer
	code := run([]string{"faults"}, strings.NewReader(input), &out, &out)
	if code != 1 {
		t.Errorf("exit code %d with failed rows, want 1", code)
	}
	if want := "faults covered: 5 of 107\n"; !strings.HasSuffix(out.String(), want) {
		t.Errorf("report ends %q, want %q", out.String()[max(0, out.Len()-60):], want)
	}
	for _, want := range []string{"  1 pass ", "  2 skip ", "  3 fail ", "  4 skip ", "  5 pass ", "  8 pass ", "  9 -    ", " 10 fail "} {
		if !strings.Contains(out.String(), "\n"+want) && !strings.HasPrefix(out.String(), want) {
			t.Errorf("report has no line that begins %q", want)
		}
	}
}

func TestCataloguesAreWhole(t *testing.T) {
	for word, total := range map[string]string{"faults": "0 of 107", "behaviours": "0 of 72"} {
		var out bytes.Buffer
		if code := run([]string{word}, strings.NewReader(""), &out, &out); code != 0 {
			t.Errorf("%s: exit code %d, want 0", word, code)
		}
		if want := word + " covered: " + total + "\n"; !strings.HasSuffix(out.String(), want) {
			t.Errorf("%s: report does not end in %q", word, want)
		}
	}
}

func TestUsage(t *testing.T) {
	var out bytes.Buffer
	if code := run([]string{"nonsense"}, strings.NewReader(""), &out, &out); code != 2 {
		t.Errorf("exit code %d, want 2", code)
	}
}
