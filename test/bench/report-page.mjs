// SPDX-License-Identifier: Apache-2.0
/** Draws the plots of the report, in the page. Chart.js is there before it. */

/* global Chart */
const plots = JSON.parse(document.getElementById('plots').textContent);
const isDark = matchMedia('(prefers-color-scheme: dark)').matches;
const colours = isDark
  ? ['#7ab8ff', '#ffb35c', '#7fd6a4', '#f29bd2', '#c3b1ff', '#e0d36b', '#8fdde7', '#ff9a8d', '#b0b7c3']
  : ['#2166ac', '#c4601d', '#1f7a4d', '#a5317f', '#6447b8', '#8a7500', '#0b7285', '#b3261e', '#5f6672'];
Chart.defaults.color = isDark ? '#d8d8d8' : '#333';
Chart.defaults.borderColor = '#8883';
Chart.defaults.animation = false;
Chart.defaults.maintainAspectRatio = false;

const muted = '#8a8f98';

/** Lowest and highest value of each bar, and the mark across. */
const spreads = {
  id: 'spreads',
  afterDatasetsDraw({ ctx, scales, data }, _, { plot }) {
    const { x, y } = scales;
    const line = (fromX, fromY, toX, toY) => {
      ctx.beginPath();
      ctx.moveTo(fromX, fromY);
      ctx.lineTo(toX, toY);
      ctx.stroke();
    };
    ctx.save();
    ctx.strokeStyle = Chart.defaults.color;
    plot.bars.forEach(({ low, high }, index) => {
      if (low === undefined || high === undefined) return;
      const at = y.getPixelForValue(index);
      const [from, to] = [x.getPixelForValue(low), x.getPixelForValue(high)];
      line(from, at, to, at);
      for (const end of [from, to]) line(end, at - 3, end, at + 3);
    });
    if (plot.mark !== undefined && data.labels.length > 0) {
      ctx.setLineDash([4, 3]);
      const at = (plot.upright ? y : x).getPixelForValue(plot.mark.value);
      if (plot.upright) line(x.left, at, x.right, at);
      else line(at, y.top, at, y.bottom);
    }
    ctx.restore();
  },
};

function bars(plot) {
  const mark = plot.mark === undefined ? '' : `; dashed: ${plot.mark.label}`;
  const values = {
    beginAtZero: true,
    suggestedMax: Math.max(...plot.bars.map(({ value, high = value }) => high)),
    title: { display: true, text: plot.unit + mark },
  };
  const names = { ticks: { autoSkip: false, maxRotation: 0 } };
  return {
    type: 'bar',
    data: {
      labels: plot.bars.map(({ label }) => label),
      datasets: [
        {
          data: plot.bars.map(({ value }) => value),
          backgroundColor: plot.bars.map((bar) => (bar.muted ? muted : colours[0])),
          maxBarThickness: plot.upright ? 24 : 14,
        },
      ],
    },
    options: {
      indexAxis: plot.upright ? 'x' : 'y',
      plugins: { legend: { display: false }, spreads: { plot } },
      scales: plot.upright ? { x: names, y: values } : { x: values, y: names },
    },
    plugins: [spreads],
  };
}

/** 1, 2 and 5 of each power of ten: more of them run into each other. */
const isRound = (value) => [1, 2, 5].includes(Number(String(value.toExponential()).split('e')[0]));

function axis({ label, log = false, ticks }) {
  return {
    type: log ? 'logarithmic' : 'linear',
    beginAtZero: !log,
    title: { display: true, text: label },
    // The logarithmic axis' own way leaves out what is not round.
    ticks: { maxRotation: 0, callback: (value) => value.toLocaleString('en') },
    afterBuildTicks(scale) {
      if (ticks !== undefined) scale.ticks = ticks.map((value) => ({ value }));
      else if (log) scale.ticks = scale.ticks.filter(({ value }) => isRound(value));
    },
  };
}

function lines(plot) {
  return {
    type: 'line',
    data: {
      datasets: plot.lines.map(({ name, points, muted: isMuted = false }, index) => ({
        label: name,
        data: points.map(([x, y]) => ({ x, y })),
        borderColor: colours[index % colours.length],
        backgroundColor: colours[index % colours.length],
        borderWidth: 2,
        borderDash: isMuted ? [5, 4] : [],
        pointRadius: points.length > 24 ? 0 : 3,
      })),
    },
    options: {
      plugins: { legend: { display: plot.lines.length > 1, labels: { usePointStyle: true, pointStyle: 'line' } } },
      scales: { x: axis(plot.x), y: axis(plot.y) },
    },
  };
}

for (const canvas of document.querySelectorAll('canvas[data-plot]')) {
  const [part, index] = canvas.dataset.plot.split('/');
  const plot = plots[part][Number(index)];
  new Chart(canvas, plot.kind === 'bars' ? bars(plot) : lines(plot));
}
